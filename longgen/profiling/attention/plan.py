"""What a session times, in order of what is missed most: 128K first, and FlexAttention, which compiles, late."""

from __future__ import annotations

from collections.abc import Iterator

from longgen.profiling.attention.implementations import IMPLEMENTATIONS
from longgen.profiling.attention.workloads import (
    FULL,
    LLAMA2_7B,
    LLAMA2_70B,
    PATTERN_NAMES,
    PATTERNS,
    STAGES,
    TINY,
    Workload,
)

LENGTHS = (131072, 32768, 8192, 4096, 16384, 65536)
LONGEST = (262144, 1048576)  # forward only
FLEX_LENGTHS = (131072, 32768)  # it is compiled for every length
FLEX = ("flex-128", "flex-64")
# On a CPU: PyTorch's attention and the blocked path, which are always there; and whatever else serves.
ON_CPU = ("sdpa", "blocked", "longgen", "flex-128", "sdpa-flash", "longgen decode", "sdpa decode")


def cases(tiny: bool) -> Iterator[tuple[Workload, str]]:
    """Workloads, each with the name of an implementation."""
    if tiny:
        for stage in STAGES:
            for pattern in PATTERN_NAMES:
                yield from _contenders(Workload(stage, TINY, 256, pattern), ON_CPU)
        return
    ours = tuple(name for name in IMPLEMENTATIONS if name not in (*FLEX, "sdpa", "blocked"))
    for length in LENGTHS:
        for shape in (LLAMA2_7B, LLAMA2_70B):
            for stage in ("forward", "forward+backward"):
                for pattern in PATTERN_NAMES:
                    yield from _contenders(Workload(stage, shape, length, pattern), ours)
            for batch in (1, 16):
                for pattern in PATTERN_NAMES:
                    if batch == 1 or pattern != FULL:
                        yield from _contenders(Workload("decode", shape, length, pattern, batch), ours)
        if length in FLEX_LENGTHS:
            for stage in ("forward", "forward+backward"):
                for pattern in PATTERNS:
                    yield from _contenders(Workload(stage, LLAMA2_7B, length, pattern), FLEX)
    for length in LONGEST:
        for pattern in PATTERNS if length > LONGEST[0] else PATTERN_NAMES:
            yield from _contenders(Workload("forward", LLAMA2_7B, length, pattern), ours)
    for stage in ("forward", "forward+backward"):
        for pattern in PATTERNS:
            yield from _contenders(Workload(stage, LLAMA2_70B, FLEX_LENGTHS[0], pattern), FLEX[:1])


def _contenders(workload: Workload, names: tuple[str, ...]) -> Iterator[tuple[Workload, str]]:
    for name in names:
        if IMPLEMENTATIONS[name].knows(workload):
            yield workload, name
