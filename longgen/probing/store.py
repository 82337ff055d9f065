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
from longgen.probing.layouts import layer_evaluations, layout_key
from longgen.probing.passes import Losses, SharedPasses
from longgen.probing.prompts import Prompt


class Store:
    """What was measured of the prompts under layouts: in memory, and as lines of a file.

    Made by `open_store`.

    Attributes:
        spent: what all measurements took, those of earlier sessions included.
    """

    def __init__(self, file: TextIO, path: Path, by: str, prompts: Sequence[Prompt], deadline: float) -> None:
        self._file, self._path, self._by, self._deadline = file, path, by, deadline
        self._prompts = {prompt.name: prompt for prompt in prompts}
        self._known: dict[tuple[str, str], Losses] = {}
        self.spent = Spent()
        fields = {"by": str, "prompt": str, "layout": str, "answers": float, "text": float, "spent": dict}
        for line in read_lines(path, **fields):
            if line["by"] == by and line["prompt"] in self._prompts:
                self._known[line["prompt"], line["layout"]] = Losses(line["answers"], line["text"])
                self.spent.add(line["spent"])

    def missing(self, layouts: Sequence[Layout]) -> dict[str, list[Layout]]:
        """By name of the prompt, those of ``layouts`` that are still to be measured, each once."""
        distinct = {layout_key(layout): layout for layout in layouts}
        found = {
            name: [layout for key, layout in distinct.items() if (name, key) not in self._known]
            for name in self._prompts
        }
        return {name: own for name, own in found.items() if own}

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
            with _Pieces(advance) as pieces:

                def measured(index: int, losses: Losses) -> None:
                    key, spent = layout_key(own[index]), pieces.next()  # noqa: B023 - called in this round only
                    self._known[name, key] = losses  # noqa: B023
                    line = {"by": self._by, "prompt": name, "layout": key}  # noqa: B023
                    write_line(self._file, line | losses._asdict() | {"spent": spent})
                    self._file.flush()
                    self.spent.add(spent)
                    if time.monotonic() >= self._deadline:
                        raise ProbeStoppedError(self._path)

                passes.run(self._prompts[name], own, measured, pieces.count)

    def losses(self, layout: Layout) -> list[Losses]:
        """Of a layout that was measured, those of every prompt, in their order."""
        key = layout_key(layout)
        return [self._known[name, key] for name in self._prompts]

    def answers(self, layout: Layout) -> np.ndarray:
        """[prompts] float64: the losses of the answers alone."""
        return np.array([losses.answers for losses in self.losses(layout)])


class Spent:
    """What measurements took together.

    Attributes:
        seconds: of wall-clock time.
        evaluations: layers that were computed, each of one prompt.
    """

    def __init__(self) -> None:
        self.seconds, self.evaluations = 0.0, 0
        self._pieces: list[dict[str, Any]] = []

    def add(self, piece: dict[str, Any]) -> None:
        """Add what one measurement took, as `_Pieces.next` has it."""
        self._pieces.append(piece)
        self.seconds += piece["seconds"]
        self.evaluations += piece["evaluations"]

    def busy(self) -> dict[str, float | None]:
        """How busy the machine was, as `Watch.columns`: loads at the first and the last measurement, shares on average.

        Measurements that were too short to tell count in no average.
        """
        if not self._pieces:
            return dict.fromkeys(WATCHED)
        found = {"load_before": self._pieces[0]["load_before"], "load_after": self._pieces[-1]["load_after"]}
        for share in ("others", "steal"):
            known = [(piece[share], piece["seconds"]) for piece in self._pieces if piece[share] is not None]
            seconds = sum(own for _, own in known)
            found[share] = sum(value * own for value, own in known) / seconds if seconds else None
        return found


class _Pieces:
    """Layers, seconds and other processes between two measurements."""

    def __init__(self, advance: Callable[[], object]) -> None:
        self._advance, self._stack = advance, ExitStack()

    def __enter__(self) -> _Pieces:
        self._count, self._since = 0, time.monotonic()
        self._watch = self._stack.enter_context(Watch())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def count(self) -> None:
        self._count += 1
        self._advance()

    def next(self) -> dict[str, Any]:
        """What the piece that ends took; another begins."""
        self._stack.close()
        found = {"seconds": time.monotonic() - self._since, "evaluations": self._count} | self._watch.columns()
        self.__enter__()
        return found


@contextmanager
def open_store(path: Path, by: str, prompts: Sequence[Prompt], deadline: float) -> Iterator[Store]:
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
        yield Store(file, path, by, prompts, deadline)
