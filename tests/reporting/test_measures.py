"""Pooling and differences of proportions."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.reporting.measures import ideal_speedup, pool, retrieval_by_length, with_ideal
from longgen.reporting.run import Run
from longgen.statistics import difference_interval, wilson_interval
from tests.reporting.fake_run import DEFAULTS, DEPTHS, LENGTHS, SAMPLES, STAGES, exact, ideal


def test_pool_weighs_by_samples_and_recomputes_the_interval() -> None:
    rows = pd.DataFrame({"variant": "a", "depth": [0, 1], "n": [10, 30], "exact": [0.1, 0.9]})
    pooled = pool(rows, ["variant"]).iloc[0]
    assert (pooled["n"], pooled["exact"]) == (40, 28 / 40)
    assert (pooled["exact_low"], pooled["exact_high"]) == wilson_interval(28, 40)


def test_retrieval_by_length_pools_the_needle_over_depths(run: Run) -> None:
    table = retrieval_by_length(run).set_index(["variant", "task", "length"])
    assert list(dict.fromkeys(table.index.get_level_values("variant"))) == list(DEFAULTS)
    for number, variant in enumerate(DEFAULTS):
        for length in LENGTHS:
            row = table.loc[(variant, "needle", length)]
            assert row["exact"] == pytest.approx(sum(exact(number, 0, length, depth) for depth in DEPTHS) / 5)
            assert row["n"] == SAMPLES * len(DEPTHS)
            row = table.loc[(variant, "variable-tracking", length)]
            assert (row["exact"], row["n"]) == (exact(number, 2, length, 0.5), SAMPLES)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50), st.integers(1, 50))
def test_difference_interval_encloses_the_difference_and_is_antisymmetric(k: int, n: int, j: int, m: int) -> None:
    k, j = min(k, n), min(j, m)
    first, second = (k / n, *wilson_interval(k, n)), (j / m, *wilson_interval(j, m))
    value, low, high = difference_interval(first, second)
    assert -1 <= low <= value <= high <= 1
    assert difference_interval(second, first) == pytest.approx((-value, -high, -low))


def test_difference_interval_matches_the_published_example() -> None:
    # Newcombe (1998), table II, method 10: 56/70 - 48/80
    value, low, high = difference_interval((56 / 70, *wilson_interval(56, 70)), (48 / 80, *wilson_interval(48, 80)))
    assert (value, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert math.isnan(difference_interval((2.0, math.nan, math.nan), (1.0, 0.5, 1.5))[1])


def test_ideals_come_from_the_plan_of_the_same_variant_stage_and_length(run: Run) -> None:
    speed = with_ideal(run, run.frame("speed"))
    for row in speed.to_dict("records"):
        number, stage = list(DEFAULTS).index(row["variant"]), STAGES.index(row["stage"])
        assert row["ideal_speedup"] == ideal(number, stage, row["length"])
    assert math.isnan(ideal_speedup(run, "longgen-sink", "prefill", 12345))
