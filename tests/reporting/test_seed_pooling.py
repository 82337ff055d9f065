"""Means over seeds and their intervals: by hand, at the edges, and how often they cover the truth."""

from __future__ import annotations

import numpy as np
import pytest

from longgen.reporting.seeds.pooling import AnswerCounts, Difference, Interval, Shares, is_paired, pool, pool_difference


def shares(known: bool = True, **tasks: str) -> Shares:
    """Answers of tasks at one depth; not ``known``: how many were right, and not which."""
    return Shares({name: {None: AnswerCounts(len(o), o.count("1"), o if known else None)} for name, o in tasks.items()})


def test_means_are_over_seeds_and_within_them_over_tasks() -> None:
    found = pool({0: shares(a="1110", b="10"), 1: shares(a="1000", b="00"), 5: shares(a="1111", b="11")})
    assert found.by_seed == {0: 0.625, 1: 0.125, 5: 1.0}
    assert found.value == pytest.approx((0.625 + 0.125 + 1.0) / 3)
    assert (found.seeds, found.n) == (3, 18)
    assert 0 < found.low < found.value < found.high < 1


def test_cells_of_a_task_are_pooled_by_their_counts() -> None:
    grid = {0.0: AnswerCounts(1, 1, "1"), 1.0: AnswerCounts(3, 0, "000")}
    assert Shares({"a": grid}).value == 0.25, "not the mean of 1 and 0"


def test_answers_that_are_all_right_leave_doubt() -> None:
    found = pool({seed: shares(a="1" * 20) for seed in range(3)})
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.9 < found.low < 0.99
    more = pool({seed: shares(a="1" * 200) for seed in range(3)})
    assert found.low < more.low < 1.0


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike = pool({seed: shares(a="10" * 50) for seed in range(3)})
    apart = pool({seed: shares(a="1" * right + "0" * (100 - right)) for seed, right in enumerate((20, 50, 80))})
    assert alike.value == apart.value == 0.5
    assert apart.high - apart.low > 3 * (alike.high - alike.low)


def test_exact_values_have_no_interval_and_measured_ones_their_own() -> None:
    exact = pool({0: Interval(0.5, 0.5, 0.5), 1: Interval(0.5, 0.5, 0.5)})
    assert (exact.low, exact.value, exact.high, exact.n) == (0.5, 0.5, 0.5, None)
    one = pool({0: Interval(2.0, 1.0, 3.0)})
    assert (one.low, one.high) == (pytest.approx(1.0, abs=0.1), pytest.approx(3.0, abs=0.1))
    four = pool({seed: Interval(2.0, 1.0, 3.0) for seed in range(4)})
    assert four.high - four.low == pytest.approx(1.0, abs=0.1), "half as wide with four times as many"
    transformed = one.transform(lambda value: 10 * value)
    assert (transformed.value, transformed.low, transformed.by_seed) == (20.0, 10 * one.low, {0: 20.0})


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """Both levels count: seeds vary around 0.7 by 0.08, and each has 40 answers."""
    generator, hits, rounds = np.random.default_rng(1), 0, 120
    for _ in range(rounds):
        rates = np.clip(generator.normal(0.7, 0.08, size=10), 0, 1)
        runs = {seed: shares(a="".join(map(str, generator.binomial(1, rate, 40)))) for seed, rate in enumerate(rates)}
        found = pool(runs)
        hits += found.low <= 0.7 <= found.high
    assert 0.88 <= hits / rounds <= 0.995


def test_pairs_are_what_counts() -> None:
    first, second = "11100000", "10010000"
    paired = Difference(shares(a=first), shares(a=second))
    assert (paired.value, paired.n, paired.is_paired) == (1 / 8, 8, True)
    assert paired._joint("a").tolist() == [[4, 1], [2, 1]]  # type: ignore[union-attr]
    unpaired = Difference(shares(a=first), shares(known=False, a=second))
    assert (unpaired.value, unpaired.n, unpaired.is_paired) == (1 / 8, 8, False)


def several(**tasks: str) -> Shares:
    """Answers of four parts, at one depth."""
    return Shares({name: {0.5: AnswerCounts(len(o), sum(map(int, o)), o, 4)} for name, o in tasks.items()})


def test_of_answers_with_several_parts_the_parts_count() -> None:
    found = pool({0: several(a="4210"), 1: several(a="4444")})
    assert found.by_seed == {0: 7 / 16, 1: 1.0}
    assert found.n == 8, "answers, not parts"
    difference = Difference(several(a="4210"), several(a="4001"))
    assert (difference.value, difference.n, difference.is_paired) == (2 / 16, 4, True)
    unpaired = Difference(several(a="4210"), Shares({"a": {0.5: AnswerCounts(4, 1.25, None)}}))
    assert (unpaired.value, unpaired.is_paired) == (7 / 16 - 1.25 / 4, False)


def test_answers_that_give_half_vary_less_than_answers_that_give_all_or_nothing() -> None:
    """The doubt is that of samples: four parts of one answer are not four answers."""
    width = {}
    for name, answers in {"half": "2" * 100, "all or nothing": "40" * 50}.items():
        found = pool({seed: several(a=answers) for seed in range(3)})
        assert found.value == 0.5
        width[name] = found.high - found.low
    coin = pool({seed: shares(a="10" * 50) for seed in range(3)})
    assert width["half"] < width["all or nothing"] / 3
    assert width["all or nothing"] == pytest.approx(coin.high - coin.low, rel=0.1)
    ours, theirs = ({seed: several(a=o * 25) for seed in range(3)} for o in ("4202", "0202"))
    found = pool_difference(ours, theirs)
    assert found is not None
    assert found.value == 0.25
    assert 0.15 < found.low < found.high < 0.35


def test_pairing_narrows_the_interval_of_models_that_agree() -> None:
    runs = {seed: shares(a="1100" * 50) for seed in range(3)}
    blind = {seed: shares(known=False, a="1100" * 50) for seed in range(3)}
    paired, unpaired = pool_difference(runs, runs), pool_difference(blind, blind)
    assert paired is not None and unpaired is not None
    assert paired.value == unpaired.value == 0.0
    assert (unpaired.high - unpaired.low) > 4 * (paired.high - paired.low) > 0
    assert is_paired(runs, runs)
    assert not is_paired(runs, blind)


def test_only_samples_that_both_got_are_compared() -> None:
    many = Shares(
        {"a": {0.0: AnswerCounts(4, 2, "1100"), 0.5: AnswerCounts(4, 4, "1111")}, "b": {0.0: AnswerCounts(1, 1, "1")}}
    )
    few = Shares({"a": {0.0: AnswerCounts(2, 1, "10")}})
    found = Difference(many, few)
    assert found.tasks == ["a"]
    assert (found.value, found.n) == (0.5, 2), "the first two of depth 0"


def test_seeds_are_compared_with_themselves() -> None:
    """Half of the seeds are easy for both: a difference within seeds is clear where that between means is not."""
    first = {seed: shares(a=("1" * 60 if seed % 2 else "1" * 10 + "0" * 50)) for seed in range(6)}
    second = {seed: shares(a=("1" * 50 + "0" * 10 if seed % 2 else "0" * 60)) for seed in range(6)}
    found = pool_difference(first, second)
    assert found is not None
    assert found.value == pytest.approx(1 / 6)
    assert found.low > 0.08
    assert pool(first).low < pool(second).high, "the two overlap by themselves"
    only = pool_difference(first, {seed: second[seed] for seed in (0, 3)})
    assert only is not None
    assert list(only.by_seed) == [0, 3]
    assert pool_difference(first, {}) is None
    assert pool_difference(first, {0: shares(other="1")}) is None


def test_the_same_numbers_give_the_same_interval() -> None:
    runs = {0: shares(a="110"), 1: shares(a="100")}
    assert pool(runs) == pool(dict(runs))
