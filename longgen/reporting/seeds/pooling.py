"""Means over seeds with intervals from two levels: seeds are drawn anew, and within each the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from longgen.statistics import Z95, draw_share, draw_shares

DRAWS = 4000


class SeedValue(Protocol):
    """What one seed measured, with the doubt that its own samples leave."""

    @property
    def value(self) -> float:
        """As measured."""

    @property
    def n(self) -> int | None:
        """Samples behind it; None where they are not counted."""

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Values as other samples might have given them, float64 of ``shape``."""


class AnswerCounts(NamedTuple):
    """Answers at one depth.

    Attributes:
        n: how many.
        parts_given: in all answers, of ``n * parts``; no whole number where only their share is known.
        outcomes: how many in each answer, a digit for every sample; None if that was not written down.
        parts: of an answer: 1 where it is right or wrong.
    """

    n: int
    parts_given: float
    outcomes: str | None
    parts: int = 1


# The cells of one task by depth (None where the task is no grid).
Cells = Mapping[float | None, AnswerCounts]


@dataclass(frozen=True)
class Shares:
    """Scores, and their mean over tasks of equal weight: the share of right answers, and of answers with several parts
    the share of parts that were given (RULER's score).

    Attributes:
        tasks: name -> its cells, at least one, whose answers are pooled. All of a task's have the same parts.
    """

    tasks: Mapping[str, Cells]

    @property
    def value(self) -> float:
        """The mean over tasks, within 0..1."""
        return float(np.mean([_share(cells) for cells in self.tasks.values()]))

    @property
    def n(self) -> int:
        """Answers of all tasks."""
        return sum(map(_answers, self.tasks.values()))

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Of every task from the posterior of how many answers gave how many parts."""
        return np.mean([_draw_score(cells, generator, shape) for cells in self.tasks.values()], axis=0)

    def of(self, tasks: list[str]) -> Shares | None:
        """Those of ``tasks`` that were asked; None if none was."""
        cells = {name: self.tasks[name] for name in tasks if name in self.tasks}
        return Shares(cells) if cells else None


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95 % interval (both the value where it has none), taken as a normal one's."""

    value: float
    low: float
    high: float
    n: None = None

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Of a normal distribution with such an interval."""
        return self.value + (self.high - self.low) / (2 * Z95) * generator.standard_normal(shape)


@dataclass(frozen=True)
class Difference:
    """`Shares` of ``first`` minus those of ``second``, over the tasks that both were asked.

    Where both say what each answer gave, only samples that both got count, and are compared one by one: what is drawn
    is how many pairs of answers gave which parts.
    """

    first: Shares
    second: Shares

    @property
    def tasks(self) -> list[str]:
        """Those that both were asked."""
        return [name for name in self.first.tasks if name in self.second.tasks]

    @property
    def is_paired(self) -> bool:
        """Whether samples are compared one by one in every task."""
        return all(self._joint(task) is not None for task in self.tasks)

    @property
    def value(self) -> float:
        """The mean over tasks, within -1..1."""
        return float(np.mean([self._value(task) for task in self.tasks]))

    @property
    def n(self) -> int:
        """Pairs of answers of all tasks; where they are no pairs, the fewer of the two."""
        counts = [self._joint(task) for task in self.tasks]
        both = [min(_answers(self.first.tasks[name]), _answers(self.second.tasks[name])) for name in self.tasks]
        return sum(n if joint is None else int(joint.sum()) for joint, n in zip(counts, both, strict=True))

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Of every task from the posterior of what was counted."""
        return np.mean([self._draw(task, generator, shape) for task in self.tasks], axis=0)

    def _value(self, task: str) -> float:
        joint = self._joint(task)
        if joint is not None:
            return float((joint * _ahead(joint)).sum() / joint.sum())
        return _share(self.first.tasks[task]) - _share(self.second.tasks[task])

    def _draw(self, task: str, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        joint = self._joint(task)
        if joint is not None:
            return draw_shares(joint, generator, shape, 2.0) @ _ahead(joint).ravel()
        first, second = (_draw_score(each.tasks[task], generator, shape) for each in (self.first, self.second))
        return first - second

    def _joint(self, task: str) -> np.ndarray | None:
        """[parts + 1, parts + 1]: of how many samples the first gave i parts and the second j; None if unknown."""
        first_cells, second_cells = self.first.tasks[task], self.second.tasks[task]
        pairs: list[tuple[str, str]] = []
        for depth in first_cells.keys() & second_cells.keys():
            first, second = first_cells[depth].outcomes, second_cells[depth].outcomes
            if first is None or second is None:
                return None
            pairs += zip(first, second, strict=False)  # a cell's first samples are the same, however many there are
        joint = np.zeros((_parts(first_cells) + 1, _parts(second_cells) + 1), dtype=int)
        for first_parts, second_parts in pairs:
            joint[int(first_parts), int(second_parts)] += 1
        return joint if pairs else None


def _parts(cells: Cells) -> int:
    return next(iter(cells.values())).parts


def _answers(cells: Cells) -> int:
    return sum(cell.n for cell in cells.values())


def _share(cells: Cells) -> float:
    return sum(cell.parts_given for cell in cells.values()) / (_answers(cells) * _parts(cells))


def _ahead(joint: np.ndarray) -> np.ndarray:
    """By how much of an answer the first is ahead, in each cell of ``joint``."""
    first, second = (np.linspace(0, 1, size) for size in joint.shape)
    return first[:, None] - second


def _draw_score(cells: Cells, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    parts, outcomes = _parts(cells), [cell.outcomes for cell in cells.values()]
    if all(outcomes):
        counts = np.bincount([int(digit) for digit in "".join(map(str, outcomes))], minlength=parts + 1)
        return draw_shares(counts, generator, shape, 1.0) @ np.linspace(0, 1, parts + 1)
    n = _answers(cells)
    return draw_share(_share(cells) * n, n, generator, shape)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        value: the mean.
        low: lower end of its 95 % interval.
        high: upper end.
        by_seed: the seeds' own values.
        n: samples of all seeds; None where they are not counted.
    """

    value: float
    low: float
    high: float
    by_seed: dict[int, float]
    n: int | None

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.by_seed)

    def transform(self, function: Callable[[float], float]) -> Estimate:
        """With a rising ``function`` of all values."""
        seeds = {seed: function(value) for seed, value in self.by_seed.items()}
        return Estimate(function(self.value), function(self.low), function(self.high), seeds, self.n)


def pool(by_seed: Mapping[int, SeedValue]) -> Estimate:
    """The mean over seeds (at least one) of what was sampled, and its 95 % interval.

    A two-level bootstrap: in each of `DRAWS` draws as many seeds as there are, with replacement, and for each of these
    the samples anew. Answers come from the posterior of their counts (Jeffreys' of right and wrong ones), since
    resampling answers that are all right shows no doubt, as in `longgen.evaluation.summaries`; of what has an interval
    of its own, that one counts. Percentiles, widened to the mean if that is outside. Our choice; of three seeds an
    interval says little about seeds that were not tried.
    """
    values = {seed: seed_value.value for seed, seed_value in by_seed.items()}
    mean, count = float(np.mean(list(values.values()))), len(values)
    generator = np.random.default_rng(0)
    seed_indices = generator.integers(0, count, size=(1, DRAWS, count))
    seed_draws = np.stack([seed_value.draw(generator, (DRAWS, count)) for seed_value in by_seed.values()])
    means = np.take_along_axis(seed_draws, seed_indices, axis=0)[0].mean(axis=1)
    low, high = (float(end) for end in np.percentile(means, [2.5, 97.5]))
    counts = [seed_value.n for seed_value in by_seed.values()]
    n = None if None in counts else sum(each for each in counts if each is not None)
    return Estimate(mean, min(low, mean), max(high, mean), values, n)


def pool_difference(first: Mapping[int, Shares], second: Mapping[int, Shares]) -> Estimate | None:
    """`pool` of first minus second, seed by seed; None if no seed has both, with a task in common."""
    both = {seed: Difference(first[seed], second[seed]) for seed in first if seed in second}
    both = {seed: each for seed, each in both.items() if each.tasks}
    return pool(both) if both else None


def is_paired(first: Mapping[int, Shares], second: Mapping[int, Shares]) -> bool:
    """Whether `pool_difference` compares samples one by one."""
    return all(Difference(first[seed], second[seed]).is_paired for seed in first if seed in second)
