"""What a KV budget buys: against trying every layout, against the bytes of real caches, and the paper's two layouts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longgen.errors import ConfigError
from longgen.hybrid import Hybrid
from longgen.layout import HEADS, Layout, make_layout, spread_over_heads
from longgen.model import Model
from longgen.modeling import LongGenCache, longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.planner import Choice, layouts_for_budget
from longgen.shapes import ModelShape, model_shape
from tests.modeling.models import tiny_base, tokens
from tests.test_pattern import patterns
from tests.test_planner import TINY, head_masks

SINK, STRIDE = SparsePattern(64, 1, 16), SparsePattern(64, 1, 16, 16)
LONG = 131072


def words(choice: Choice) -> tuple[float, int, float, bool]:
    return (
        choice.hybrid.layout.num_full,
        choice.hybrid.pattern.stride,
        round(choice.plan.kv_reduction, 3),
        choice.within_budget,
    )


def test_the_papers_62_percent() -> None:
    found = layouts_for_budget(model_shape("llama2-7b"), [SINK, STRIDE], LONG, 0.38)
    assert [words(choice) for choice in found] == [
        (12, 0, 0.62, True),
        (11, 21, 0.62, True),
        (10, 16, 0.639, True),
        (13, 0, 0.589, False),
        (11, 16, 0.61, False),
    ]


def test_by_heads_the_budget_is_used_up() -> None:
    found = layouts_for_budget(model_shape("llama2-7b"), [STRIDE], LONG, 0.38, HEADS, other_strides=False)
    assert [words(choice)[2:] for choice in found] == [(0.62, True), (0.62, False)]
    within, above = (round(choice.hybrid.layout.num_full * 32) for choice in found)
    assert above == within + 1 == 342  # a third of 1,024 heads is 341.3


# ---------------------------------------------------------------- brute force
def dense_share(layout: Layout, pattern: SparsePattern, length: int) -> float:
    """Kept keys over all keys, counted in dense masks."""
    future = (pattern.local_blocks + 1) * pattern.block_size
    kept = [
        length if full else int(mask[length:, :length].any(axis=0).sum())
        for full, mask in head_masks(pattern, layout, length + future)
    ]
    return sum(kept) / (length * len(kept))


@settings(max_examples=25)
@given(patterns, st.integers(20, 120), st.floats(0.05, 0.95), st.sampled_from(["middle", HEADS]))
def test_most_full_layers_within_the_budget(pattern: SparsePattern, length: int, budget: float, placement: str) -> None:
    if placement == HEADS:
        layouts = [spread_over_heads(TINY.num_layers, TINY.num_kv_heads, full) for full in range(11)]
    else:
        layouts = [make_layout(TINY.num_layers, full) for full in range(6)]
    shares = [dense_share(layout, pattern, length) for layout in layouts]
    fitting = [layout for layout, share in zip(layouts, shares, strict=True) if share <= budget]
    if not fitting:
        with pytest.raises(ConfigError, match=r"kv_budget is .*: allowed is at least [01]\.\d+ here"):
            layouts_for_budget(TINY, [pattern], length, budget, placement, other_strides=False)
        return
    within, above = layouts_for_budget(TINY, [pattern], length, budget, placement, other_strides=False)
    assert (within.within_budget, within.hybrid.layout) == (True, fitting[-1])
    assert (above.within_budget, above.hybrid.layout) == (False, layouts[len(fitting)])
    assert within.plan.kv_fraction == pytest.approx(shares[len(fitting) - 1])


@pytest.mark.parametrize(("sink_blocks", "stride", "budget"), [(1, 4, 0.5), (3, 4, 0.5), (1, 2, 0.75)])
def test_smallest_stride_for_a_full_layer_more(sink_blocks: int, stride: int, budget: float) -> None:
    pattern = SparsePattern(4, sink_blocks, 2, stride)
    found = layouts_for_budget(TINY, [pattern], 200, budget)
    other = next(choice for choice in found if choice.hybrid.pattern != pattern)
    above = next(choice for choice in found if not choice.within_budget)
    assert other.within_budget
    assert other.hybrid.layout == above.hybrid.layout
    strides = [dataclasses.replace(pattern, stride=smaller) for smaller in range(2, other.hybrid.pattern.stride + 1)]
    shares = [dense_share(above.hybrid.layout, smaller, 200) for smaller in strides]
    assert shares[-1] <= budget < min(shares[:-1])


# ---------------------------------------------------------------- real caches
@pytest.mark.parametrize("placement", ["middle", HEADS])
def test_real_caches_keep_within_the_budget_and_the_next_layout_does_not(placement: str) -> None:
    base, length, budget = tiny_base(), 256, 0.5  # a multiple of the cache's chunk of growth
    shape = ModelShape("tiny", 6, 64, 96, 4, 2, 16, 128)

    def measured(layout: Layout, pattern: SparsePattern) -> int:
        model = longgen_classes("llama")[1](longgen_config(base.config, layout, pattern)).eval()
        cache = LongGenCache(model.config)
        with torch.no_grad():
            model(tokens(length, batch=1), past_key_values=cache, use_cache=True)
        return cache.nbytes()

    pattern = SparsePattern(8, 1, 3, 5)
    full = measured(make_layout(6, "all"), pattern)
    assert full == Model(shape, Hybrid(make_layout(6, "all"), pattern)).kv_cache_bytes(length, 4)
    for choice in layouts_for_budget(shape, [pattern], length, budget, placement, bytes_per_value=4):
        assert measured(choice.hybrid.layout, choice.hybrid.pattern) == choice.plan.kv_bytes
        assert (choice.plan.kv_bytes / full <= budget) == choice.within_budget


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize("budget", [0, 1, -0.1, 38, float("nan")])
def test_impossible_budgets_are_refused(budget: float) -> None:
    with pytest.raises(ConfigError, match=rf"kv_budget is {budget}: allowed is a number > 0 and < 1"):
        layouts_for_budget(TINY, [SINK], 1000, budget)


def test_a_budget_below_any_pattern_says_what_is_least() -> None:
    with pytest.raises(ConfigError) as error:
        layouts_for_budget(model_shape("llama2-7b"), [SINK, STRIDE], LONG, 0.005)
    message = "kv_budget is 0.005: allowed is at least 0.0079 here, which is left without any full layer"
    assert str(error.value) == message
    assert layouts_for_budget(model_shape("llama2-7b"), [SINK], LONG, 0.0079)[0].hybrid.layout.num_full == 0
