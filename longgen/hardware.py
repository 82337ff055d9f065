"""Whether the device that a configuration names is there, what the processor can do, and how large main memory is."""

from __future__ import annotations

import functools
import os
from typing import Literal

from longgen.errors import ConfigError

# What weights are read and converted in, and models answer in.
ModelDtype = Literal["bfloat16", "float16", "float32"]


def require_gpu(name: str, device: str) -> None:
    """Raise ConfigError if ``device``, which key ``name`` requests, is cuda and PyTorch sees no GPU."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{name} is {device!r}: allowed is cpu, as PyTorch sees no GPU")


def main_memory() -> int:
    """Bytes of main memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.cache
def bfloat16_instructions() -> tuple[str, ...]:
    """This processor's instructions for products of bfloat16, as PyTorch names them; none where it has none."""
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
    else:  # PyTorch before 2.13 tells of x86 alone
        capabilities = {
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
            "amx_bf16": torch.cpu._is_amx_tile_supported(),
        }
    return tuple(name for name in ("avx512_bf16", "amx_bf16", "bf16") if capabilities.get(name, False))


def computes_in_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; without, they are slower than in float32."""
    return bool(bfloat16_instructions())


def computed_dtype(dtype: str, device: str) -> str:
    """The dtype that computes where a user asks for ``dtype``: on a CPU without products of bfloat16, float32.

    There it is quicker, and no less exact.
    """
    return "float32" if dtype == "bfloat16" and device == "cpu" and not computes_in_bfloat16() else dtype
