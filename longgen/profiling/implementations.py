"""Who computes a workload: our kernels, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from longgen.attention import FULL_KERNELS, decode_attention, full_attention, sparse_attention
from longgen.attention.flex import flex_attend, why_flex_cannot
from longgen.profiling.workloads import FULL, PATTERN_NAMES, PATTERNS, Attention, Workload


@dataclass(frozen=True)
class Implementation:
    """One contender.

    Attributes:
        stages: what it can be timed at.
        patterns: names in `PATTERN_NAMES` that it knows.
        attention: of a workload: the function to time. Raises ValueError where it cannot serve, when it is called.
        seconds_to_start: what compiling it may take, for the time budget.
    """

    stages: tuple[str, ...]
    patterns: tuple[str, ...]
    attention: Callable[[Workload], Attention]
    seconds_to_start: float = 5.0

    def knows(self, workload: Workload) -> bool:
        """Whether it is a contender for this workload at all."""
        return workload.stage in self.stages and workload.pattern in self.patterns


def _full(kernel: str) -> Callable[[Workload], Attention]:
    return lambda workload: lambda query, key, value: full_attention(query, key, value, kernel=kernel)


def _sparse(backend: str) -> Callable[[Workload], Attention]:
    def of(workload: Workload) -> Attention:
        pattern = PATTERNS[workload.pattern]
        return lambda query, key, value: sparse_attention(query, key, value, pattern, backend=backend)

    return of


def _flex(mask_block: int) -> Callable[[Workload], Attention]:
    def of(workload: Workload) -> Attention:
        call = workload.shape.call(PATTERNS[workload.pattern])

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            if problem := why_flex_cannot(query, key, call):
                raise ValueError(problem)
            return flex_attend(query, key, value, call, mask_block)

        return attend

    return of


def _decode(backend: str) -> Callable[[Workload], Attention]:
    return lambda workload: lambda query, key, value: decode_attention(query, key, value, backend=backend)


SPARSE = tuple(PATTERNS)
WHOLE = ("forward", "forward+backward")

# "longgen" are our kernels, "blocked" is our path without Triton.
IMPLEMENTATIONS: dict[str, Implementation] = {
    **{name: Implementation(WHOLE, (FULL,), _full(name)) for name in FULL_KERNELS if name not in ("triton", "sdpa")},
    "longgen": Implementation(WHOLE, SPARSE, _sparse("triton")),
    "longgen decode": Implementation(("decode",), PATTERN_NAMES, _decode("triton")),
    "sdpa decode": Implementation(("decode",), PATTERN_NAMES, _decode("sdpa")),
    "sdpa-flash decode": Implementation(("decode",), PATTERN_NAMES, _full("sdpa-flash")),
    "longgen full": Implementation(WHOLE, (FULL,), _full("triton")),
    "flex-128": Implementation(WHOLE, SPARSE, _flex(128), 30.0),
    "flex-64": Implementation(WHOLE, SPARSE, _flex(64), 30.0),
    "sdpa": Implementation(WHOLE, (FULL,), _full("sdpa")),
    "blocked": Implementation(WHOLE, SPARSE, _sparse("blocked")),
}
# What ours are measured against: full attention by others.
DENSE = ("flash-attn", "sdpa-flash", "sdpa-cudnn", "sdpa", "sdpa decode", "sdpa-flash decode")
