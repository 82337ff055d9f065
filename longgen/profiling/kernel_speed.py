"""Stage ``kernel-speed``: attention alone, by our kernels and by those of others; and what the device does at best.

What follows from the times of a session: rates, the ideal that sparsity allows, and how near to it a time comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from operator import itemgetter
from pathlib import Path

import torch

from longgen.names import COPY, PRODUCT
from longgen.profiling.implementations import DENSE, IMPLEMENTATIONS, WHOLE
from longgen.profiling.rounds import TIMES, median_columns
from longgen.profiling.session import Budget, Record, ResultFile, Stage
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
from longgen.records.schema import MEASURED
from longgen.records.speed import never_slower_from

SpeedCase = tuple[Workload, str]  # with the name of an implementation

LENGTHS = (131072, 32768, 8192, 4096, 16384, 65536)
LONGEST = (262144, 1048576)  # forward only
FLEX_LENGTHS = (131072, 32768)  # it is compiled for every length
FLEX = ("flex-128", "flex-64")
# On a CPU: PyTorch's attention and the blocked path, which are always there; and whatever else serves.
ON_CPU = ("sdpa", "blocked", "longgen", "flex-128", "sdpa-flash", "longgen decode", "sdpa decode")

KEY = ("stage", "shape", "length", "batch", "pattern", "implementation")
DERIVED = ("flops_per_second", "bytes_per_second", "ideal_seconds", "ideal_from", "fraction_of_ideal", "speedup")
_HEADINGS = (
    *("stage", "model", "length", "batch", "pattern", "implementation"),
    *("ms", "TFLOP/s", "GB/s", "ideal", "x dense"),
)


class KernelSpeed(Stage[SpeedCase]):
    """Every implementation on every workload.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of the inputs.
        tiny: small sizes, to try the code.
        limits: of the device, as `device_limits` gives them.
    """

    kind, title = "kernel-speed", "speed"

    def __init__(self, device: str, dtype: torch.dtype, tiny: bool, limits: Sequence[Record]) -> None:
        self.device, self._dtype, self._tiny, self._limits = device, dtype, tiny, limits
        self.settings = {"dtype": dtype_name(dtype), "tiny": tiny}

    def more_cases(self) -> list[SpeedCase]:
        return list(cases(self._tiny))

    def identities(self, case: SpeedCase) -> list[Record]:
        record = self.blank(case)
        return [{name: record[name] for name in KEY}]

    def blank(self, case: SpeedCase) -> Record:
        workload, name = case
        return {
            "stage": workload.stage,
            **workload.shape.columns(),
            "dtype": dtype_name(self._dtype),
            "length": workload.length,
            "batch": workload.batch,
            "pattern": workload.pattern,
            "implementation": name,
            "flops": workload.flops(),
            "bytes": workload.bytes(self._dtype.itemsize),
            **dict.fromkeys((*DERIVED, "status", "reason", *TIMES)),
        }

    def seconds_to_start(self, case: SpeedCase) -> float:
        return IMPLEMENTATIONS[case[1]].seconds_to_start

    def measure(self, case: SpeedCase, budget: Budget) -> list[Record]:
        workload, name = case
        attention = IMPLEMENTATIONS[name].attention(workload)
        seconds = time_workload(attention, workload, self.device, self._dtype, 0.01 if self._tiny else 0.4)
        return [self.blank(case) | median_columns(seconds)]

    def complete(self, records: list[Record]) -> list[Record]:
        return derive(records, self._limits)

    def table(self, records: Sequence[Record]) -> str:
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
def device_limits(folder: Path, name: str, device: str, dtype: torch.dtype, tiny: bool) -> list[Record]:
    """Records of kind ``device-limits`` of run ``name`` below ``folder``: of an earlier session, or measured now.

    Raises:
        ArtifactError: as `ResultFile.open`.
    """
    file = ResultFile.open(folder, name, "device-limits", {"dtype": dtype_name(dtype), "tiny": tiny}, device)
    if not file.result.records:
        file.put(measure_limits(device, dtype, tiny))
    return file.result.records


def measure_limits(device: str, dtype: torch.dtype, tiny: bool = False) -> list[Record]:
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
        {"quantity": COPY, "unit": "bytes per second", "value": bandwidth, **copy},
        {"quantity": PRODUCT, "unit": "operations per second", "value": rate, **matmul},
    ]


def derive(records: Sequence[Record], limits: Sequence[Record]) -> list[Record]:
    """The records with the columns `DERIVED`.

    For a whole sequence the ideal is the time of the fastest dense kernel of the same stage and heads in this session,
    scaled by the floating-point operations that the pattern leaves; at a length where none was measured, that of the
    nearest length. To decode it is the time to read the cache at the copy bandwidth of this session. The speed-up is
    over the fastest dense kernel at the same length; to decode, over that on the cache of a full layer.

    Args:
        records: of kind ``kernel-speed``, with status, seconds, flops and bytes.
        limits: of kind ``device-limits``.
    """
    bandwidth = next((limit["value"] for limit in limits if limit["quantity"] == COPY), None)
    return [record | _columns(record, records, bandwidth) for record in records]


def _columns(record: Record, records: Sequence[Record], bandwidth: float | None) -> Record:
    columns: Record = dict.fromkeys(DERIVED)
    if record["status"] != MEASURED:
        return columns
    seconds = record["seconds"]
    columns["flops_per_second"] = record["flops"] / seconds
    columns["bytes_per_second"] = record["bytes"] / seconds
    dense = _nearest_dense(record, records)
    if record["stage"] == "decode":
        if bandwidth is not None:
            columns["ideal_seconds"] = record["bytes"] / bandwidth
            columns["ideal_from"] = COPY
    elif dense is not None:
        columns["ideal_seconds"] = dense["seconds"] * record["flops"] / dense["flops"]
        columns["ideal_from"] = f"{dense['implementation']} @ {dense['length']}"
    if columns["ideal_seconds"] is not None:
        columns["fraction_of_ideal"] = columns["ideal_seconds"] / seconds
    if dense is not None and dense["length"] == record["length"]:
        columns["speedup"] = dense["seconds"] / seconds
    return columns


def _nearest_dense(record: Record, records: Sequence[Record]) -> Record | None:
    """The fastest dense kernel at the length nearest to the record's, of the same stage, heads and batch."""
    same = [
        other
        for other in records
        if other["status"] == MEASURED
        and other["implementation"] in DENSE
        and other["pattern"] == "full"
        and all(other[column] == record[column] for column in ("stage", "shape", "batch"))
    ]
    return min(same, key=lambda other: (abs(other["length"] - record["length"]), other["seconds"]), default=None)


# ---------------------------------------------------------------- the table
def kernel_table(records: Sequence[Record], limits: Sequence[Record]) -> str:
    """A row per measurement; what was not measured in a line of its own; and from which length on we beat dense."""
    lines = [f"{limit['quantity']}: {limit['value']:.3g} {limit['unit']}" for limit in limits]
    rows = [
        (
            *(record["stage"], record["shape"], f"{record['length']:,}", str(record["batch"])),
            *(record["pattern"], record["implementation"], f"{1e3 * record['seconds']:.3f}"),
            *(f"{record['flops_per_second'] / 1e12:.1f}", f"{record['bytes_per_second'] / 1e9:.0f}"),
            *(number(record["fraction_of_ideal"], ".0%"), number(record["speedup"], ".2f")),
        )
        for record in sorted(records, key=itemgetter("stage", "shape", "batch", "length", "pattern", "implementation"))
        if record["status"] == MEASURED
    ]
    lines += [*aligned(_HEADINGS, rows, keys=6, words=2), *crossovers(records)]
    rest = Counter(
        f"{record['status']}: {record['implementation']}: {record['reason']}"
        for record in records
        if record["status"] != MEASURED
    )
    return "\n".join([*lines, *(f"{words} ({count} cases)" for words, count in rest.items())])


def crossovers(records: Sequence[Record]) -> list[str]:
    """For every stage, model and pattern: from which measured length on our kernels never lose to dense ones."""
    lows: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in records:
        if record["implementation"] == "longgen" and record["speedup"] is not None:
            low = record["speedup"] * record["seconds"] / record["seconds_high"]
            lows.setdefault((record["stage"], record["shape"], record["pattern"]), {})[record["length"]] = low
    lines = []
    for group, speedups in lows.items():
        length = never_slower_from(speedups)
        words = "at no measured length" if length is None else f"from {length:,} tokens on"
        lines.append(f"{', '.join(group)}: not slower than the fastest dense kernel {words}")
    return lines
