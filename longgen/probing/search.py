"""Which layers, or heads, should stay full: ranked by their own cost, and chosen greedily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from longgen.layout import HEADS, Layout, count_full_layers, make_layout
from longgen.probed_layout import Unit, Units, layer_evaluations

# Measures layouts and returns [layouts, prompts] float64: the loss of the answers, in nats per token.
Measure = Callable[[Sequence[Layout]], np.ndarray]
Group = tuple[Unit, ...]

# Shares of the layers at which placements are measured, and of which layout files are written. Our choices.
SHARES = ("1/12", "1/6", "1/4", "1/3", "1/2", "2/3")
LAYOUT_SHARES = ("1/12", "1/6", "1/3")


@dataclass(frozen=True)
class MeasuredSet:
    """A layout, and why it was measured.

    Attributes:
        name: ``full``, ``sparse``, ``alone`` (one unit sparse), ``ranked``, ``greedy``, ``candidate``, or a placement.
        layout: what was measured.
        unit: of ``alone`` the sparse one, of ``greedy`` and ``candidate`` the first of those that were added last.
    """

    name: str
    layout: Layout
    unit: Unit | None = None


def all_full(units: Units) -> MeasuredSet:
    """Every unit full."""
    return MeasuredSet("full", units.layout(units.all))


def all_sparse(units: Units) -> MeasuredSet:
    """Every unit sparse."""
    return MeasuredSet("sparse", units.layout(()))


def single_sets(units: Units) -> list[MeasuredSet]:
    """All full, all sparse, and every unit sparse with all others full."""
    single = [MeasuredSet("alone", units.layout(set(units.all) - {unit}), unit) for unit in units.all]
    return [all_full(units), all_sparse(units), *single]


def rank(units: Units, measure: Measure) -> list[Unit]:
    """Units from the one that costs most when it is sparse alone to the one that costs least; of equals the lower."""
    losses = measure([each.layout for each in single_sets(units)])
    costs = (losses[2:] - losses[0]).mean(axis=1)
    return [units.all[index] for index in np.argsort(-costs, kind="stable")]


def greedy(units: Units, groups: Sequence[Group], steps: int, measure: Measure) -> Iterator[list[MeasuredSet]]:
    """From all sparse on, add the group that makes the answers' loss smallest, given those before; of equals the first.

    Args:
        units: of the model.
        groups: candidates; they share no unit.
        steps: how many are added, at most all.
        measure: see `Measure`.

    Yields:
        after every step the candidates that were measured, the chosen one first.
    """
    chosen: list[Unit] = []
    remaining = list(groups)
    for _ in range(min(steps, len(groups))):
        sets = [MeasuredSet("candidate", units.layout([*chosen, *group]), group[0]) for group in remaining]
        best = int(np.argmin(measure([each.layout for each in sets]).mean(axis=1)))
        chosen += remaining.pop(best)
        best_set = sets.pop(best)
        yield [MeasuredSet("greedy", best_set.layout, best_set.unit), *sets]


def grouped(ranked: Sequence[Unit], size: int, count: int) -> list[Group]:
    """The ``count`` first groups of ``size`` units each that follow one another in the ranking."""
    groups = [tuple(ranked[start : start + size]) for start in range(0, len(ranked), size)]
    return groups[:count]


def curve_sets(units: Units, ranked: Sequence[Unit], placements: Sequence[str], full_layers: int) -> list[MeasuredSet]:
    """Layouts by number of full layers: the first of the ranking, and placements that know nothing of the model.

    Args:
        units: of the model.
        ranked: all units.
        placements: names in `longgen.layout.PLACEMENTS`, or `HEADS`.
        full_layers: the ranking is measured at every number of layers up to this, and at `SHARES`.
    """
    shares = sorted({count_full_layers(units.num_layers, share) for share in SHARES} - {0, units.num_layers})
    counts = sorted({*shares, *range(1, full_layers + 1)})
    sets = [MeasuredSet("ranked", units.layout(ranked[: count * units.per_layer])) for count in counts]
    for placement in placements:
        for count in shares:
            layout = make_layout(units.num_layers, count, placement, units.num_kv_heads)
            sets.append(MeasuredSet(placement, layout))
    return sets


def default_placements(by_heads: bool) -> tuple[str, ...]:
    """What a probe compares with: the paper's placement, the evenly spread one, and by head that over all heads."""
    return ("middle", "interleaved", HEADS) if by_heads else ("middle", "interleaved")


def most_evaluations_of_greedy(units: Units, groups: Sequence[Group], steps: int) -> int:
    """Layers of one prompt that `greedy` computes at most: as if the cheapest candidate were always chosen."""
    depths = sorted((min(unit.layer for unit in group) for group in groups), reverse=True)
    total = 0
    for step in range(min(steps, len(groups))):
        remaining = depths[step:]
        total += max(remaining) + sum(units.num_layers - depth for depth in remaining)
    return total


def candidate_count(units: Units, full_layers: int, candidates: int | None) -> int:
    """How many groups are candidates: at least as many as are chosen, and all where ``candidates`` is None."""
    return units.num_layers if candidates is None else min(max(candidates, full_layers), units.num_layers)


def most_forward_passes(
    units: Units, placements: Sequence[str], full_layers: int, candidates: int | None = None
) -> int:
    """How many forward passes of a prompt a whole probe takes at most, as layers may be chosen."""
    groups = grouped(units.all, units.per_layer, candidate_count(units, full_layers, candidates))
    curves = curve_sets(units, units.all, placements, full_layers)
    ranking = layer_evaluations([each.layout for each in single_sets(units)])
    choice = most_evaluations_of_greedy(units, groups, full_layers)
    return -(-(ranking + choice) // units.num_layers) + len(curves)
