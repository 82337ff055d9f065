"""The device under measurement: its peak, its memory, and the time of something that it runs."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from longgen.gpus import GIB, gpu_of_device
from longgen.hardware import computed_dtype, main_memory

Precision = Literal["float32", "bfloat16"]


class Timing(NamedTuple):
    """Time and memory of one run.

    Attributes:
        seconds: of wall-clock time.
        peak_bytes: most memory that tensors on the GPU took; None on a CPU.
    """

    seconds: float
    peak_bytes: int | None


def precision_on(device: str, trial: bool = False) -> Precision:
    """In which models are trained and run there.

    Args:
        device: ``cpu`` or ``cuda``.
        trial: the code is only tried out, at tiny sizes on a CPU.
    """
    narrow = computed_dtype("bfloat16", device) == "bfloat16" and not (trial and device == "cpu")
    return "bfloat16" if narrow else "float32"


def free_main_memory() -> int:
    """Bytes of main memory that a process may still take: what Linux calls available, or else all that is installed."""
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return main_memory()


def why_not(needed: int, available: int, what: str) -> str | None:
    """In words, why ``needed`` bytes do not fit in those of ``what`` that are available; None if they do."""
    if needed <= available:
        return None
    return f"predicted to need {needed / GIB:.1f} GiB: there are {available / GIB:.1f} GiB of {what}"


def time_run(run: Callable[[], object], device: str) -> Timing:
    """Run once, from an idle device to an idle device."""
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    run()
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return Timing(seconds, torch.cuda.max_memory_allocated(device) if on_gpu else None)


def capture_graph(run: Callable[[], object]) -> Callable[[], None]:
    """Capture what ``run`` launches as a CUDA graph; returns its replay, in which the host's launches are not timed.

    Args:
        run: by fixed shapes and addresses, and without waiting for the device. It has run before: nothing can be
            compiled while it is captured.

    Raises:
        RuntimeError: it does what a graph cannot hold.
    """
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # other threads, such as NCCL's watchdog after training, may go on asking the device about their own work
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph.replay


def peak_flops(device: str) -> float | None:
    """Of the datasheet, per second in the precision used there; None where it is not known."""
    gpu = None if device == "cpu" else gpu_of_device(torch.cuda.get_device_name(device))
    return None if gpu is None else gpu.flops(precision_on(device))


@functools.cache
def product_flops(device: str, precision: Precision) -> float:
    """Floating-point operations per second of a matrix product there, at best of a few: where no datasheet tells."""
    side = 1024
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    return 2 * side**3 / min(time_run(lambda: left @ right, device).seconds for _ in range(5))


LEAST_EFFICIENCY = 0.35  # of the peak, or of a matrix product's rate where no datasheet tells the peak; our choice


def least_flops(device: str) -> float:
    """Floating-point operations per second that are reached at least: by this a time budget is planned.

    On a CPU those of a trial: `longgen.profiling.inference_measure` knows better about true shapes.
    """
    return LEAST_EFFICIENCY * (peak_flops(device) or product_flops(device, precision_on(device, trial=True)))


def processor_rates() -> tuple[float, float]:
    """Of one processor of this machine, measured with all that PyTorch uses: FLOP/s at least, bytes read per second.

    The first is `LEAST_EFFICIENCY` of a matrix product's in the dtype that computes here, the second that of a sum over
    256 MiB.
    """
    processors = torch.get_num_threads()
    values = torch.ones(2**26)
    seconds = min(time_run(values.sum, "cpu").seconds for _ in range(5))
    flops = LEAST_EFFICIENCY * product_flops("cpu", precision_on("cpu"))
    return flops / processors, values.nbytes / seconds / processors


def free_memory(device: str, collect: bool = True) -> None:
    """Give back the GPU memory that nothing refers to any more; ``collect`` what refers to itself, as models do."""
    if device != "cpu":
        if collect:
            gc.collect()
        torch.cuda.empty_cache()
