"""Compile our launches for a GPU that is not there, and read what the compiler made of them.

A stand-in driver answers Triton's questions about the device; every ``kernel[grid](...)`` of the launch code then
specialises its arguments and compiles as it would on the device, and nothing is run.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.backends.nvidia.compiler import get_ptxas
from triton.runtime import driver
from triton.runtime.jit import KernelInterface

from longgen.attention import triton_decode, triton_launch

# Most shared memory a block can have, in bytes (CUDA programming guide, table of compute capabilities).
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}


class _AbsentGpu(DriverBase):
    """Says that a GPU of ``capability`` is there."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return "int"

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_benchmarker(self) -> Any:
        raise RuntimeError("no GPU")

    def get_device_interface(self) -> Any:
        raise RuntimeError("no GPU")

    def get_empty_cache_for_benchmark(self) -> Any:
        raise RuntimeError("no GPU")

    def clear_cache(self, cache: Any) -> None:
        raise RuntimeError("no GPU")

    def set_current_device(self, device: int) -> None:
        raise RuntimeError("no GPU")


@dataclass(frozen=True)
class Compiled:
    """What became of one launch.

    Attributes:
        kernel: its name.
        registers: per thread.
        spilled: bytes of registers stored to and loaded from memory.
        shared: bytes of shared memory.
        tensor_cores: kinds of tensor-core instructions in the PTX, of ``wgmma`` and ``mma``.
        warnings: of ptxas.
    """

    kernel: str
    registers: int
    spilled: int
    shared: int
    tensor_cores: tuple[str, ...]
    warnings: tuple[str, ...]


@contextmanager
def absent_gpu(capability: int) -> Iterator[list[Compiled]]:
    """Within, launches compile for ``capability`` and are described in the list."""
    compiled: list[Compiled] = []

    def launcher(function: Any, grid: Any) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            function.device_caches.clear()  # or it would remember the target that it first compiled for
            compiled.append(_describe(function.warmup(*args, grid=grid, **options), capability))

        return launch

    driver.set_active(_AbsentGpu(capability))
    with (
        mock.patch.object(KernelInterface, "__getitem__", launcher),
        mock.patch.object(triton_launch, "_capability", lambda device: capability),
        mock.patch.object(triton_decode, "why_unsupported", lambda *tensors: None),
    ):
        yield compiled


def _describe(kernel: Any, capability: int) -> Compiled:
    ptx = kernel.asm["ptx"]
    log = _ptxas(ptx, capability)
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.search(r"Used (\d+) registers", log)
    assert spilled and registers, log
    return Compiled(
        kernel=kernel.metadata.name,
        registers=int(registers[1]),
        spilled=int(spilled[1]) + int(spilled[2]),
        shared=kernel.metadata.shared,
        tensor_cores=tuple(n for n, found in (("wgmma", "wgmma.mma_async"), ("mma", "mma.sync")) if found in ptx),
        warnings=tuple(line for line in log.splitlines() if re.search("warning|serializ", line, re.IGNORECASE)),
    )


def _ptxas(ptx: str, capability: int) -> str:
    """What ptxas says about registers; Triton's own run of it does not tell."""
    architecture = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    # as newer versions of Triton call it
    options = [] if triton.__version__.startswith("3.6.") else ["--regAllocOptLevel=2"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        outcome = subprocess.run(
            [
                get_ptxas(capability).path,
                "-v",
                *options,
                f"--gpu-name={architecture}",
                str(source),
                "-o",
                f"{folder}/o",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    return outcome.stderr + outcome.stdout
