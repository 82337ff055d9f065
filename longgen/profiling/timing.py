"""Honest times: warmed up, on random inputs that the cache cannot hold, by events of the device."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import torch

from longgen.profiling.device import capture_graph
from longgen.profiling.workloads import Attention, Workload

# Inputs of decoding are rotated until they are larger than any L2 cache (60 MB on an H200).
ROTATED_BYTES = 512 * 2**20
MOST_ROTATED = 64
FLUSHED_BYTES = 256 * 2**20


def time_workload(
    attention: Attention, workload: Workload, device: str, dtype: torch.dtype, seconds: float
) -> list[float]:
    """Seconds of every call of ``attention`` on a workload.

    Args:
        attention: of query, key and value.
        workload: what to compute.
        device: where.
        dtype: of the inputs.
        seconds: to spend on repetitions; at least three are made.

    Raises:
        ValueError: what ``attention`` raises where it cannot serve.
        RuntimeError: what the device raises, out of memory included.
    """
    gc.collect()
    if workload.stage == "decode":
        return _time_decode(attention, workload, device, dtype, seconds)
    inputs = workload.inputs(device, dtype, seed=0)
    if workload.stage == "forward":

        def run() -> None:
            with torch.no_grad():
                attention(*inputs)

    else:
        for tensor in inputs:
            tensor.requires_grad_()
        direction = torch.randn_like(inputs[0])

        def run() -> None:
            torch.autograd.grad(attention(*inputs), inputs, direction)

    return repeat(run, device, seconds)


def _time_decode(
    attention: Attention, workload: Workload, device: str, dtype: torch.dtype, seconds: float
) -> list[float]:
    copies = max(1, min(MOST_ROTATED, -(-ROTATED_BYTES // workload.bytes(dtype.itemsize))))
    sets = [workload.inputs(device, dtype, seed) for seed in range(1 if device == "cpu" else copies)]

    @torch.no_grad()
    def run() -> None:
        for inputs in sets:
            attention(*inputs)

    if device != "cpu":
        run()
        run = capture_graph(run)  # as a serving engine would
    return [each / len(sets) for each in repeat(run, device, seconds)]


def repeat(run: Callable[[], object], device: str, seconds: float) -> list[float]:
    """Seconds of every of as many runs as take about ``seconds`` together; 3 to 100, after one to warm up."""
    run()
    first = _times(run, device, 1)
    return first + _times(run, device, int(min(99, max(2, seconds / max(first[0], 1e-6)))))


def _times(run: Callable[[], object], device: str, count: int) -> list[float]:
    if device == "cpu":
        times = []
        for _ in range(count):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return times
    # As triton.testing.do_bench does: overwriting a buffer empties the L2 cache, and keeps the device busy while the
    # host launches what is timed.
    buffer = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device=device)
    starts, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(count)] for _ in range(2))
    for start, end in zip(starts, ends, strict=True):
        buffer.zero_()
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in zip(starts, ends, strict=True)]
