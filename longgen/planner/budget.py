"""Which layouts keep the KV cache within a share of full attention's.

A full layer more makes every cost larger, so that within a budget no full layer at all is always the cheapest. What is
sought is the most full attention that the budget buys: our choice of a rule, as quality hangs on it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from longgen.errors import require
from longgen.hybrid import Hybrid
from longgen.layout import HEADS, make_layout, spread_over_heads
from longgen.model import CostPlan, Model, make_plan
from longgen.pattern import SparsePattern
from longgen.shapes import ModelShape

# A sparser stride hardly differs from none. Our choice.
SPARSEST_STRIDE = 256


@dataclass(frozen=True)
class Choice:
    """A hybrid, and what it costs.

    Attributes:
        hybrid: layout, and pattern of what is sparse.
        plan: predictions.
        within_budget: whether the KV cache is.
    """

    hybrid: Hybrid
    plan: CostPlan
    within_budget: bool


def layouts_for_budget(
    shape: ModelShape,
    patterns: Sequence[SparsePattern],
    length: int,
    budget: float,
    placement: str = "middle",
    batch: int = 1,
    bytes_per_value: int = 2,
    other_strides: bool = True,
) -> list[Choice]:
    """For every pattern the layout with most full layers within ``budget``, and the one with a full layer more.

    Args:
        shape: the model.
        patterns: of sparse layers, to choose among.
        length: tokens at which the budget holds; the share falls with length.
        budget: bytes of the KV cache over those of full attention, 0 < budget < 1.
        placement: of the full layers, which changes no cost; `HEADS` counts full KV heads of all layers instead.
        batch: sequences.
        bytes_per_value: of weights and KV cache.
        other_strides: also find, for a full layer more, the smallest stride that brings it within the budget.

    Returns:
        those within the budget first; then by most full layers, and by fewest bytes.

    Raises:
        ConfigError: a budget outside of 0..1, or which no pattern meets, or as `Model` and `make_layout`.
    """
    require(0 < budget < 1, "kv_budget", budget, "a number > 0 and < 1, the share of full attention's KV cache")
    units = shape.num_layers * (shape.num_kv_heads if placement == HEADS else 1)

    def model_with(full: int, pattern: SparsePattern) -> Model:
        if placement == HEADS:
            layout = spread_over_heads(shape.num_layers, shape.num_kv_heads, full)
        else:
            layout = make_layout(shape.num_layers, full, placement)
        return Model(shape, Hybrid(layout, pattern))

    def size(full: int, pattern: SparsePattern) -> int:
        return model_with(full, pattern).kv_cache_bytes(length)

    budget_bytes = budget * model_with(0, patterns[0]).full.kv_cache_bytes(length)

    candidates: list[tuple[int, SparsePattern]] = []
    for pattern in patterns:
        above = bisect.bisect_right(range(units), budget_bytes, key=lambda full: size(full, pattern))
        candidates += [(full, pattern) for full in (above, above - 1) if full >= 0]
        if pattern.stride and other_strides:
            others = (replace(pattern, stride=stride) for stride in range(2, SPARSEST_STRIDE + 1))
            candidates += islice(((above, other) for other in others if size(above, other) <= budget_bytes), 1)
    choices = [
        Choice(
            model_with(full, pattern).hybrid,
            make_plan(model_with(full, pattern), length, batch, bytes_per_value),
            size(full, pattern) <= budget_bytes,
        )
        for full, pattern in candidates
    ]
    least = math.ceil(1e4 * min(choice.plan.kv_fraction for choice in choices)) / 1e4
    any_within = any(choice.within_budget for choice in choices)
    require(any_within, "kv_budget", budget, f"at least {least} here, which is left without any full layer")
    return sorted(
        choices, key=lambda choice: (not choice.within_budget, -choice.hybrid.layout.num_full, choice.plan.kv_bytes)
    )
