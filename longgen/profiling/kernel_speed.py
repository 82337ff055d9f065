"""Stage ``kernel-speed``: attention alone, by our kernels and by those of others; and what the device does at best.

What follows from the times of a session: rates, the ideal that sparsity allows, and how near to it a time comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from operator import attrgetter
from pathlib import Path

import torch

from longgen.names import COPY, PRODUCT
from longgen.profiling.implementations import DENSE, IMPLEMENTATIONS, WHOLE
from longgen.profiling.rounds import median_columns
from longgen.profiling.session import Budget, ResultFile, Stage
from longgen.profiling.table import aligned, number
from longgen.profiling.timing import repeat, time_workload
from longgen.profiling.workloads import (
    FULL,
    LLAMA2_7B,
    LLAMA2_70B,
    PATTERN_NAMES,
    PATTERNS,
    STAGES,
    TINY,
    Workload,
    dtype_name,
)
from longgen.records.kernels import DeviceLimitRecord, KernelSpeedRecord
from longgen.records.schema import MEASURED
from longgen.records.speed import never_slower_from

SpeedCase = tuple[Workload, str]  # with the name of an implementation

LENGTHS = (131072, 32768, 8192, 4096, 16384, 65536)
LONGEST = (262144, 1048576)  # forward only
FLEX_LENGTHS = (131072, 32768)  # it is compiled for every length
FLEX = ("flex-128", "flex-64")
# On a CPU: PyTorch's attention and the blocked path, which are always there; and whatever else serves.
ON_CPU = ("sdpa", "blocked", "longgen", "flex-128", "sdpa-flash", "longgen decode", "sdpa decode")

_HEADINGS = (
    *("stage", "model", "length", "batch", "pattern", "implementation"),
    *("ms", "TFLOP/s", "GB/s", "ideal", "x dense"),
)


class KernelSpeed(Stage[SpeedCase, KernelSpeedRecord]):
    """Every implementation on every workload.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of the inputs.
        tiny: small sizes, to try the code.
        limits: of the device, as `device_limits` gives them.
    """

    kind, title = "kernel-speed", "speed"
    key = ("stage", "shape", "length", "batch", "pattern", "implementation")

    def __init__(self, device: str, dtype: torch.dtype, tiny: bool, limits: Sequence[DeviceLimitRecord]) -> None:
        self.device, self._dtype, self._tiny, self._limits = device, dtype, tiny, limits
        self.settings = {"dtype": dtype_name(dtype), "tiny": tiny}

    def more_cases(self) -> list[SpeedCase]:
        return list(cases(self._tiny))

    def blank(self, case: SpeedCase) -> KernelSpeedRecord:
        workload, name = case
        return KernelSpeedRecord.blank(
            stage=workload.stage,
            **workload.shape.columns(),
            dtype=dtype_name(self._dtype),
            length=workload.length,
            batch=workload.batch,
            pattern=workload.pattern,
            implementation=name,
            flops=workload.flops(),
            bytes=workload.bytes(self._dtype.itemsize),
        )

    def seconds_to_start(self, case: SpeedCase) -> float:
        return IMPLEMENTATIONS[case[1]].seconds_to_start

    def measure(self, case: SpeedCase, budget: Budget) -> list[KernelSpeedRecord]:
        workload, name = case
        attention = IMPLEMENTATIONS[name].attention(workload)
        seconds = time_workload(attention, workload, self.device, self._dtype, 0.01 if self._tiny else 0.4)
        return [timed(self.blank(case), seconds)]

    def complete(self, records: list[KernelSpeedRecord]) -> list[KernelSpeedRecord]:
        return derive(records, self._limits)

    def table(self, records: Sequence[KernelSpeedRecord]) -> str:
        return kernel_table(records, self._limits)


def cases(tiny: bool) -> Iterator[SpeedCase]:
    """In order of what is missed most: 128K first, and FlexAttention, which compiles, late."""
    if tiny:
        for stage, pattern in product(STAGES, PATTERN_NAMES):
            yield from _contenders(Workload(stage, TINY, 256, pattern), ON_CPU)
        return
    ours = tuple(name for name in IMPLEMENTATIONS if name not in (*FLEX, "sdpa", "blocked"))
    for length in LENGTHS:
        for shape in (LLAMA2_7B, LLAMA2_70B):
            for stage, pattern in product(WHOLE, PATTERN_NAMES):
                yield from _contenders(Workload(stage, shape, length, pattern), ours)
            for batch, pattern in product((1, 16), PATTERN_NAMES):
                if batch == 1 or pattern != FULL:
                    yield from _contenders(Workload("decode", shape, length, pattern, batch), ours)
        for stage, pattern in product(WHOLE, PATTERNS) if length in FLEX_LENGTHS else ():
            yield from _contenders(Workload(stage, LLAMA2_7B, length, pattern), FLEX)
    for length in LONGEST:
        for pattern in PATTERNS if length > LONGEST[0] else PATTERN_NAMES:
            yield from _contenders(Workload("forward", LLAMA2_7B, length, pattern), ours)
    for stage, pattern in product(WHOLE, PATTERNS):
        yield from _contenders(Workload(stage, LLAMA2_70B, FLEX_LENGTHS[0], pattern), FLEX[:1])


def _contenders(workload: Workload, names: tuple[str, ...]) -> Iterator[SpeedCase]:
    for name in names:
        if IMPLEMENTATIONS[name].knows(workload):
            yield workload, name


# ---------------------------------------------------------------- what the device can do, and what follows
def device_limits(folder: Path, name: str, device: str, dtype: torch.dtype, tiny: bool) -> list[DeviceLimitRecord]:
    """Records of kind ``device-limits`` of run ``name`` below ``folder``: of an earlier session, or measured now.

    Raises:
        ArtifactError: as `ResultFile.open`.
    """
    file = ResultFile.open(folder, name, "device-limits", {"dtype": dtype_name(dtype), "tiny": tiny}, device)
    if not file.result.records:
        file.put(measure_limits(device, dtype, tiny))
    return file.result.records


def measure_limits(device: str, dtype: torch.dtype, tiny: bool = False) -> list[DeviceLimitRecord]:
    """Records of kind ``device-limits``.

    Args:
        device: to measure.
        dtype: of the matrix product.
        tiny: small sizes, to try the code.

    Returns:
        a record each: bytes read and written per second of a large copy on the device; floating-point operations per
        second of a large matrix product on random numbers.
    """
    count, side = (2**20, 256) if tiny else (2**31, 8192)
    source = torch.randint(-128, 128, (count,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy = median_columns(repeat(lambda: target.copy_(source), device, 0.5))
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    matmul = median_columns(repeat(lambda: left @ right, device, 0.5))
    bandwidth, rate = 2 * count / copy["seconds"], 2 * side**3 / matmul["seconds"]
    return [
        DeviceLimitRecord(quantity=COPY, unit="bytes per second", value=bandwidth, **copy),
        DeviceLimitRecord(quantity=PRODUCT, unit="operations per second", value=rate, **matmul),
    ]


def timed(record: KernelSpeedRecord, seconds: Sequence[float]) -> KernelSpeedRecord:
    """The record with its times and rates; ``seconds`` of every repetition."""
    found = replace(record, **median_columns(seconds))
    return replace(found, flops_per_second=found.flops / found.seconds, bytes_per_second=found.bytes / found.seconds)


def derive(records: Sequence[KernelSpeedRecord], limits: Sequence[DeviceLimitRecord]) -> list[KernelSpeedRecord]:
    """The records with what follows from all of them: ideal and speed-up.

    For a whole sequence the ideal is the time of the fastest dense kernel of the same stage and heads in this session,
    scaled by the floating-point operations that the pattern leaves; at a length where none was measured, that of the
    nearest length. To decode it is the time to read the cache at the copy bandwidth of this session. The speed-up is
    over the fastest dense kernel at the same length; to decode, over that on the cache of a full layer.
    """
    bandwidth = next((limit.value for limit in limits if limit.quantity == COPY), None)
    return [_compared(record, records, bandwidth) if record.status == MEASURED else record for record in records]


def _compared(
    record: KernelSpeedRecord, records: Sequence[KernelSpeedRecord], bandwidth: float | None
) -> KernelSpeedRecord:
    ideal, ideal_from, dense = None, None, _nearest_dense(record, records)
    if record.stage == "decode":
        if bandwidth is not None:
            ideal, ideal_from = record.bytes / bandwidth, COPY
    elif dense is not None:
        ideal, ideal_from = dense.seconds * record.flops / dense.flops, f"{dense.implementation} @ {dense.length}"
    return replace(
        record,
        ideal_seconds=ideal,
        ideal_from=ideal_from,
        fraction_of_ideal=None if ideal is None else ideal / record.seconds,
        speedup=dense.seconds / record.seconds if dense is not None and dense.length == record.length else None,
    )


def _nearest_dense(record: KernelSpeedRecord, records: Sequence[KernelSpeedRecord]) -> KernelSpeedRecord | None:
    """The fastest dense kernel at the length nearest to the record's, of the same stage, heads and batch."""
    same = [
        other
        for other in records
        if other.status == MEASURED
        and other.implementation in DENSE
        and other.pattern == FULL
        and (other.stage, other.shape, other.batch) == (record.stage, record.shape, record.batch)
    ]
    return min(same, key=lambda other: (abs(other.length - record.length), other.seconds), default=None)


# ---------------------------------------------------------------- the table
def kernel_table(records: Sequence[KernelSpeedRecord], limits: Sequence[DeviceLimitRecord]) -> str:
    """A row per measurement; what was not measured in a line of its own; and from which length on we beat dense."""
    lines = [f"{limit.quantity}: {limit.value:.3g} {limit.unit}" for limit in limits]
    order = attrgetter("stage", "shape", "batch", "length", "pattern", "implementation")
    rows = [
        (
            *(record.stage, record.shape, f"{record.length:,}", str(record.batch)),
            *(record.pattern, record.implementation, f"{1e3 * record.seconds:.3f}"),
            *(f"{record.flops_per_second / 1e12:.1f}", f"{record.bytes_per_second / 1e9:.0f}"),
            *(number(record.fraction_of_ideal, ".0%"), number(record.speedup, ".2f")),
        )
        for record in sorted(records, key=order)
        if record.status == MEASURED
    ]
    lines += [*aligned(_HEADINGS, rows, keys=6, words=2), *crossovers(records)]
    rest = Counter(
        f"{record.status}: {record.implementation}: {record.reason}" for record in records if record.status != MEASURED
    )
    return "\n".join([*lines, *(f"{words} ({count} cases)" for words, count in rest.items())])


def crossovers(records: Sequence[KernelSpeedRecord]) -> list[str]:
    """For every stage, model and pattern: from which measured length on our kernels never lose to dense ones."""
    lows: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in records:
        if record.implementation == "longgen" and record.speedup is not None:
            low = record.speedup * record.seconds / record.seconds_high
            lows.setdefault((record.stage, record.shape, record.pattern), {})[record.length] = low
    lines = []
    for group, speedups in lows.items():
        length = never_slower_from(speedups)
        words = "at no measured length" if length is None else f"from {length:,} tokens on"
        lines.append(f"{', '.join(group)}: not slower than the fastest dense kernel {words}")
    return lines
