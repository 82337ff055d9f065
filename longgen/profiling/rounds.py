"""Rounds, in each of which everything that is compared runs once; and what follows from them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from longgen.busy import Watch, spread
from longgen.profiling.device import least_flops
from longgen.profiling.session import Budget
from longgen.statistics import bootstrap_interval

# Rounds that count: more than the fewest as long as they have not taken so many seconds.
FEWEST_ROUNDS, MOST_ROUNDS, ROUNDS_SECONDS = 3, 7, 40.0
RESERVE = 1.2  # times the mean of the rounds before must be left for another one
SECONDS_TO_START = 30.0  # for the time budget: of models, until their first round

BASELINE = "full"  # the variant that speed-ups are relative to
StageTimes = dict[str, dict[str, list[float]]]  # stage -> variant -> seconds of each round

Item = TypeVar("Item", bound=Hashable)
Measurement = TypeVar("Measurement")


def alternating_rounds(
    items: Sequence[Item], measure: Callable[[Item], Measurement], another: Callable[[int], bool]
) -> tuple[dict[Item, list[Measurement]], dict[str, Any]]:
    """What ``measure`` returns for every item in every round; and how busy the machine was (`Watch.columns`).

    In alternating order: what one item leaves behind (caches, clock speed) favours no other.

    Args:
        items: what is compared; they have been warmed up.
        measure: of an item.
        another: whether there is another round after so many; `within` a budget, for example.
    """
    measurements: dict[Item, list[Measurement]] = {item: [] for item in items}
    count = 0
    with Watch() as watch:
        while another(count):
            for item in reversed(items) if count % 2 else items:
                measurements[item].append(measure(item))
            count += 1
    return measurements, watch.columns()


def within(budget: Budget, fewest: int = FEWEST_ROUNDS) -> Callable[[int], bool]:
    """Whether there is time for another round, of rounds that begin now.

    Args:
        budget: of the session; the fewest rounds are taken whatever is left of it.
        fewest: rounds; where they are fewer than `FEWEST_ROUNDS`, so many are taken as the budget allows.
    """
    started = time.monotonic()

    def another(count: int) -> bool:
        if count < fewest or count >= MOST_ROUNDS:
            return count < MOST_ROUNDS
        spent = time.monotonic() - started
        return budget.left() >= RESERVE * spent / count and (count < FEWEST_ROUNDS or spent <= ROUNDS_SECONDS)

    return another


def predicted_seconds(flops: float, device: str) -> float:
    """What warming up and the fewest rounds will take, of ``flops`` operations a round."""
    return SECONDS_TO_START + (1 + FEWEST_ROUNDS) * flops / least_flops(device)


def median_columns(seconds: Sequence[float], fewest: int = 1) -> dict[str, Any]:
    """How many there are, their median, and of ``fewest`` or more its 95 % bootstrap interval: columns of records."""
    return {"n": len(seconds), **interval_columns("seconds", seconds, fewest)}


def time_columns(seconds: Sequence[float], fewest: int = 2) -> dict[str, Any]:
    """`median_columns` of the rounds and their spread."""
    return {**median_columns(seconds, fewest), "spread": spread(seconds)}


def ratio_columns(full: Sequence[float], seconds: Sequence[float], fewest: int = 2) -> dict[str, Any]:
    """Median of the speed-ups within rounds, its interval and their spread, as columns of a record.

    Args:
        full: seconds of full attention in every round.
        seconds: of what is compared with it.
        fewest: rounds that there is an interval of.
    """
    ratios = [one / other for one, other in zip(full, seconds, strict=True)]
    return {**interval_columns("speedup", ratios, fewest), "speedup_spread": spread(ratios)}


def interval_columns(name: str, values: Sequence[float], fewest: int = 1) -> dict[str, Any]:
    """Columns ``name``, its ``_low`` and ``_high``: the median, and of ``fewest`` or more its bootstrap interval."""
    low, high = bootstrap_interval(values, "median") if len(values) >= fewest else (None, None)
    return {name: statistics.median(values), f"{name}_low": low, f"{name}_high": high}


# ---------------------------------------------------------------- rounds of variants against full attention
def rounds_by_stage(
    variants: Sequence[str], repeats: int, measure: Callable[[str], dict[str, float]], done: Callable[[], Any]
) -> tuple[StageTimes, dict[str, Any]]:
    """Seconds of ``repeats`` rounds, after one that warms up, in which every variant is measured once.

    And how busy the machine was, as `alternating_rounds` says.

    Args:
        variants: their names.
        repeats: rounds that count.
        measure: of a variant: seconds by stage.
        done: called after every measurement.
    """

    def measure_and_report(name: str) -> dict[str, float]:
        seconds = measure(name)
        done()
        return seconds

    for name in reversed(variants):
        measure_and_report(name)
    measurements, busy = alternating_rounds(variants, measure_and_report, lambda count: count < repeats)
    stages = dict.fromkeys(stage for rounds in measurements.values() for stage in rounds[0])
    times = {
        stage: {name: [each[stage] for each in rounds] for name, rounds in measurements.items() if stage in rounds[0]}
        for stage in stages
    }
    return times, busy
