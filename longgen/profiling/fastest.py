"""How full attention is computed fastest on this device: it is compared with nothing less."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

import torch

from longgen.attention import FULL_KERNELS, decode_attention, full_attention
from longgen.attention.decode import DECODE_BACKENDS, choose_decode_backend
from longgen.attention.full import choose_full_kernel
from longgen.profiling.device import free_memory
from longgen.profiling.stacks import is_trial
from longgen.profiling.timing import repeat, time_workload
from longgen.profiling.workloads import FULL, HeadShape, Workload
from longgen.shapes import ModelShape

# Tokens of all sequences together: matrix products gain no more by more of them (our choice).
CHUNK, TINY_CHUNK = 8192, 128
FEWEST_TOKENS = 64  # of a sequence, and what its tokens are a multiple of
_FULL_KERNELS = tuple(name for name in FULL_KERNELS if name != "sdpa")  # that is the fallback where no other serves

Candidate = TypeVar("Candidate", bound=Hashable)


@dataclass(frozen=True)
class PrefillConfig:
    """How prompts are prefilled.

    Attributes:
        kernel: of full layers, a name in `FULL_KERNELS`.
        chunk: tokens of a forward pass, of every sequence.
    """

    kernel: str
    chunk: int


def chunk_on(device: str, shape: ModelShape, batch: int) -> int:
    """Tokens of a forward pass, of every one of ``batch`` sequences, where memory counts."""
    each = (TINY_CHUNK if is_trial(device, shape) else CHUNK) // batch
    return max(FEWEST_TOKENS, each // FEWEST_TOKENS * FEWEST_TOKENS)


def fastest_prefill_configs(
    shape: ModelShape, length: int, chunks: list[int], device: str, dtype: torch.dtype, batch: int = 1
) -> list[PrefillConfig]:
    """For every chunk size the kernel that is fastest at a layer's full attention; the fastest of all first.

    Some kernels serve whole prompts alone, and may be worth the memory that these need.

    Args:
        shape: its heads.
        length: tokens.
        chunks: sizes to choose from, in tokens.
        device: where. On a CPU there is nothing to choose from.
        dtype: of queries, keys and values.
        batch: sequences.
    """
    if device == "cpu":
        return [PrefillConfig(choose_full_kernel(*heads_of(shape, device, dtype)), chunk) for chunk in chunks]
    workload = Workload("forward", HeadShape.of(shape), length, FULL, batch)

    def measure(config: PrefillConfig) -> float:
        query, key, value = workload.inputs(device, dtype, seed=0)

        @torch.no_grad()
        def run() -> None:
            for start in range(0, length, config.chunk):
                end = min(start + config.chunk, length)
                full_attention(query[:, :, start:end], key[:, :, :end], value[:, :, :end], kernel=config.kernel)

        return min(repeat(run, device, 0.0))

    seconds = _seconds([PrefillConfig(kernel, chunk) for chunk in chunks for kernel in _FULL_KERNELS], measure, device)
    fastest = {config.chunk: config for config in sorted(seconds, key=seconds.__getitem__, reverse=True)}
    configs = sorted(fastest.values(), key=seconds.__getitem__)
    return configs + [PrefillConfig("sdpa", chunk) for chunk in chunks if chunk not in fastest]


def fastest_decode_kernel(shape: ModelShape, length: int, device: str, dtype: torch.dtype, batch: int = 1) -> str:
    """The name in `DECODE_BACKENDS` of what is fastest over the cache of a full layer with fixed shapes."""
    if device == "cpu":
        with torch.no_grad():
            return choose_decode_backend(*heads_of(shape, device, dtype))
    query, key, value = Workload("decode", HeadShape.of(shape), length, FULL, batch).inputs(device, dtype, seed=0)
    lengths = torch.full((batch,), length + 1, device=device)

    def measure(name: str) -> float:
        @torch.no_grad()
        def run() -> None:
            decode_attention(query, key, value, lengths=lengths, backend=name)

        return min(repeat(run, device, 0.0))

    seconds = _seconds(DECODE_BACKENDS[1:], measure, device)  # "auto" is one of the others
    return min(seconds, key=seconds.__getitem__, default="sdpa")


def fastest_training_kernel(shape: ModelShape, length: int, device: str, dtype: torch.dtype) -> str:
    """The name in `FULL_KERNELS` of what computes full attention fastest here, forward and backward.

    On a CPU there is nothing to choose from.
    """
    workload = Workload("forward+backward", HeadShape.of(shape), length, FULL)

    def measure(name: str) -> float:
        return median(time_workload(partial(full_attention, kernel=name), workload, device, dtype, seconds=0.0))

    seconds = _seconds(_FULL_KERNELS if device != "cpu" else (), measure, device)
    return min(seconds, key=seconds.__getitem__, default="sdpa")


def _seconds(
    candidates: Iterable[Candidate], measure: Callable[[Candidate], float], device: str
) -> dict[Candidate, float]:
    """Of the candidates that serve: others are not installed, do not serve this input, or have no memory for it."""
    seconds = {}
    for candidate in candidates:
        with suppress(ValueError, RuntimeError):
            seconds[candidate] = measure(candidate)
        free_memory(device)
    return seconds


def heads_of(shape: ModelShape, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A query and a key of one token with the heads of ``shape``: by such "auto" chooses."""
    query, key = (
        torch.empty(1, heads, 1, shape.head_dim, device=device, dtype=dtype)
        for heads in (shape.num_heads, shape.num_kv_heads)
    )
    return query, key
