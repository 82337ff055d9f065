"""Honest times: warmed up, on random inputs that the cache cannot hold, by events of the device."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from longgen.profiling.attention.implementations import Attention
from longgen.profiling.attention.workloads import Workload
from longgen.profiling.device import captured
from longgen.statistics import bootstrap_interval

# Inputs of decoding are rotated until they are larger than any L2 cache (60 MB on an H200).
ROTATED_BYTES = 512 * 2**20
MOST_ROTATED = 64
FLUSHED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Timing:
    """Times of one call in seconds: median and its 95 % bootstrap interval, and how many were taken."""

    n: int
    seconds: float
    seconds_low: float
    seconds_high: float


TIMES = tuple(field.name for field in fields(Timing))


def time_workload(attention: Attention, workload: Workload, device: str, dtype: torch.dtype, seconds: float) -> Timing:
    """Time ``attention`` on a workload.

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

    return summary(repeat(run, device, seconds))


def _time_decode(attention: Attention, workload: Workload, device: str, dtype: torch.dtype, seconds: float) -> Timing:
    copies = max(1, min(MOST_ROTATED, -(-ROTATED_BYTES // workload.bytes(dtype.itemsize))))
    sets = [workload.inputs(device, dtype, seed) for seed in range(1 if device == "cpu" else copies)]

    @torch.no_grad()
    def run() -> None:
        for inputs in sets:
            attention(*inputs)

    if device == "cpu":
        return summary(repeat(run, device, seconds), len(sets))
    run()
    return summary(repeat(captured(run), device, seconds), len(sets))  # as a serving engine would


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


def summary(seconds: list[float], calls: int = 1) -> Timing:
    """Of runs that made ``calls`` calls each, the time of one call."""
    each = [value / calls for value in seconds]
    low, high = bootstrap_interval(each, "median")
    return Timing(len(each), statistics.median(each), low, high)
