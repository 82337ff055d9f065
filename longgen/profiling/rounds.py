"""Rounds, in each of which everything that is compared runs once; and what follows from them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from longgen.profiling.attention.session import Budget
from longgen.profiling.busy import spread
from longgen.statistics import bootstrap_interval

# Rounds that count: more than the fewest as long as they have not taken so many seconds.
FEWEST_ROUNDS, MOST_ROUNDS, ROUNDS_SECONDS = 3, 7, 40.0
RESERVE = 1.2  # times the mean of the rounds before must be left for another one

Item = TypeVar("Item", bound=Hashable)
Taken = TypeVar("Taken")


def alternating_rounds(
    items: Sequence[Item], measure: Callable[[Item], Taken], budget: Budget, fewest: int = FEWEST_ROUNDS
) -> dict[Item, list[Taken]]:
    """What ``measure`` gives of every item in every round.

    In alternating order: what one item leaves behind (caches, clock speed) favours no other.

    Args:
        items: what is compared; they have been warmed up.
        measure: of an item.
        budget: of the session; the fewest rounds are taken whatever is left of it.
        fewest: rounds; where they are fewer than `FEWEST_ROUNDS`, so many are taken as the budget allows.
    """
    taken: dict[Item, list[Taken]] = {item: [] for item in items}
    started = time.monotonic()
    for count in range(MOST_ROUNDS):
        spent = time.monotonic() - started
        enough = count >= FEWEST_ROUNDS and spent > ROUNDS_SECONDS
        if count >= fewest and (enough or budget.left() < RESERVE * spent / count):
            break
        for item in reversed(items) if count % 2 else items:
            taken[item].append(measure(item))
    return taken


def time_columns(seconds: Sequence[float]) -> dict[str, Any]:
    """Median of the rounds, its 95 % bootstrap interval and their spread, as columns of a record.

    Of one round there is no interval, of fewer than three no spread.
    """
    low, high = _interval(seconds)
    found = {"n": len(seconds), "seconds": statistics.median(seconds), "seconds_low": low, "seconds_high": high}
    return found | {"spread": spread(seconds)}


def speedup_columns(full: Sequence[float], seconds: Sequence[float], ideal: float) -> dict[str, Any]:
    """Median of the ratios within rounds, its interval and their spread, and the ideal, as columns of a record.

    Args:
        full: seconds of full attention in every round.
        seconds: of what is compared with it.
        ideal: the speed-up that is predicted at best.
    """
    ratios = [one / other for one, other in zip(full, seconds, strict=True)]
    low, high = _interval(ratios)
    speedup = statistics.median(ratios)
    found: dict[str, Any] = {"speedup": speedup, "speedup_low": low, "speedup_high": high}
    found["speedup_spread"] = spread(ratios)
    return found | {"ideal_speedup": ideal, "fraction_of_ideal": speedup / ideal}


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    return bootstrap_interval(values, "median") if len(values) > 1 else (None, None)
