"""Losses that were measured, kept one by one: a probe that was interrupted goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from longgen.busy import WATCHED, Watch
from longgen.errors import ProbeStoppedError
from longgen.evaluation.runs.line_files import append_to, read_lines, write_line
from longgen.layout import Layout
from longgen.probed_layout import layer_evaluations, layout_key
from longgen.probing.passes import PromptLosses, SharedPasses
from longgen.probing.prompts import Prompt


class LossStore:
    """The losses of prompts under layouts that were measured: in memory, and as lines of a file.

    Made by `open_store`.

    Attributes:
        cost: of all measurements, those of earlier sessions included.
    """

    def __init__(self, file: TextIO, path: Path, by: str, prompts: Sequence[Prompt], deadline: float) -> None:
        self._file, self._path, self._by, self._deadline = file, path, by, deadline
        self._prompts = {prompt.name: prompt for prompt in prompts}
        self._losses: dict[tuple[str, str], PromptLosses] = {}
        self.cost = MeasurementCost()
        fields = {"by": str, "prompt": str, "layout": str, "answers": float, "text": float, "spent": dict}
        for line in read_lines(path, **fields):
            if line["by"] == by and line["prompt"] in self._prompts:
                self._losses[line["prompt"], line["layout"]] = PromptLosses(line["answers"], line["text"])
                self.cost.add(line["spent"])

    def missing(self, layouts: Sequence[Layout]) -> dict[str, list[Layout]]:
        """By name of the prompt, those of ``layouts`` that are still to be measured, each once."""
        distinct = {layout_key(layout): layout for layout in layouts}
        missing = {
            name: [layout for key, layout in distinct.items() if (name, key) not in self._losses]
            for name in self._prompts
        }
        return {name: own for name, own in missing.items() if own}

    def evaluations_of(self, layouts: Sequence[Layout]) -> int:
        """Layers that `measure` would compute for ``layouts``."""
        return sum(layer_evaluations(own) for own in self.missing(layouts).values())

    def measure(
        self, passes: SharedPasses, layouts: Sequence[Layout], advance: Callable[[], object] = lambda: None
    ) -> None:
        """Measure what is missing, prompt by prompt.

        Raises:
            ProbeStoppedError: time is up; what was measured is in the file.
            ArtifactError: a loss is not a number.
        """
        for name, own in self.missing(layouts).items():
            with _CostMeter(advance) as meter:

                def write(index: int, losses: PromptLosses) -> None:
                    key, cost = layout_key(own[index]), meter.next()  # noqa: B023 - called in this round only
                    self._losses[name, key] = losses  # noqa: B023
                    line = {"by": self._by, "prompt": name, "layout": key}  # noqa: B023
                    write_line(self._file, line | losses._asdict() | {"spent": cost})
                    self._file.flush()
                    self.cost.add(cost)
                    if time.monotonic() >= self._deadline:
                        raise ProbeStoppedError(self._path)

                passes.run(self._prompts[name], own, write, meter.count)

    def losses(self, layout: Layout) -> list[PromptLosses]:
        """Of a layout that was measured, those of every prompt, in their order."""
        key = layout_key(layout)
        return [self._losses[name, key] for name in self._prompts]

    def answers(self, layout: Layout) -> np.ndarray:
        """[prompts] float64: the losses of the answers alone."""
        return np.array([losses.answers for losses in self.losses(layout)])


class MeasurementCost:
    """Time and work that measurements took together.

    Attributes:
        seconds: of wall-clock time.
        evaluations: layers that were computed, each of one prompt.
    """

    def __init__(self) -> None:
        self.seconds, self.evaluations = 0.0, 0
        self._measurements: list[dict[str, Any]] = []

    def add(self, measurement: dict[str, Any]) -> None:
        """Add the cost of one measurement, as `_CostMeter.next` returns it."""
        self._measurements.append(measurement)
        self.seconds += measurement["seconds"]
        self.evaluations += measurement["evaluations"]

    def busy(self) -> dict[str, float | None]:
        """How busy the machine was, as `Watch.columns`: loads at the first and the last measurement, shares on average.

        Measurements that were too short to tell count in no average.
        """
        if not self._measurements:
            return dict.fromkeys(WATCHED)
        first, last = self._measurements[0], self._measurements[-1]
        columns = {"load_before": first["load_before"], "load_after": last["load_after"]}
        for name in ("others", "steal"):
            shares = [(each[name], each["seconds"]) for each in self._measurements if each[name] is not None]
            total = sum(seconds for _, seconds in shares)
            columns[name] = sum(share * seconds for share, seconds in shares) / total if total else None
        return columns


class _CostMeter:
    """Counts layers, seconds and other processes between two measurements."""

    def __init__(self, advance: Callable[[], object]) -> None:
        self._advance, self._stack = advance, ExitStack()

    def __enter__(self) -> _CostMeter:
        self._count, self._since = 0, time.monotonic()
        self._watch = self._stack.enter_context(Watch())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def count(self) -> None:
        self._count += 1
        self._advance()

    def next(self) -> dict[str, Any]:
        """The cost of the measurement that ends now; another begins."""
        self._stack.close()
        cost = {"seconds": time.monotonic() - self._since, "evaluations": self._count} | self._watch.columns()
        self.__enter__()
        return cost


@contextmanager
def open_store(path: Path, by: str, prompts: Sequence[Prompt], deadline: float) -> Iterator[LossStore]:
    """The measurements in ``path``, to be added to; the file is made if need be.

    Args:
        path: of JSON lines. Those of other prompts, or of another ``by``, stay there unused.
        by: fingerprint of what determines the losses besides prompt and layout: weights, pattern, how it computes.
        prompts: all that are measured.
        deadline: on the clock of `time.monotonic`.

    Raises:
        ArtifactError: a line is damaged, or another process writes the file.
    """
    with append_to(path) as file:
        yield LossStore(file, path, by, prompts, deadline)
