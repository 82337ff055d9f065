"""Running what is left of an experiment's steps within a time, and taking it to another machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longgen.errors import ArtifactError
from longgen.results import load_result
from longgen.steps.pieces import Item, save_pieces
from longgen.steps.step import Journal, Step, identities, needed_by, steps_left

Command = Callable[[Sequence[str]], object]


@dataclass
class Session:
    """One call: what is to be done, and where it is kept.

    Attributes:
        run: name of the run.
        steps: all of them (`longgen.steps.experiment.experiment_steps`).
        journal: of those that are done.
        results: folder of the run's results files.
        artifacts: folder of everything else, with the journal in it.
        pieces: folder of what the next machine gets, or None.
        command: runs the words of a step.
    """

    run: str
    steps: list[Step]
    journal: Journal
    results: Path
    artifacts: Path
    pieces: Path | None
    command: Command

    @property
    def left(self) -> list[Step]:
        """The steps that are not done."""
        return steps_left(self.steps, self.journal)

    def run_steps(self, seconds_left: Callable[[], float]) -> bool:
        """Run the steps that are left, as long as there is time.

        Args:
            seconds_left: asked before every step.

        Returns:
            whether all are done.

        Raises:
            TrainingStoppedError: time was over while a model was trained; its checkpoint is among the pieces.
            LongGenError: as the commands.
        """
        try:
            while left := self.left:
                if seconds_left() <= 0:
                    return False
                print(f"steps: {left[0].name}; then {len(left) - 1} more", file=sys.stderr, flush=True)
                self._run_step(left[0], seconds_left() / 60)
        finally:
            self.keep()
        return True

    def _run_step(self, step: Step, minutes: float) -> None:
        before = self._records(step) if step.repeatable else None
        # the option wants more than 0, also where time is up just now: training stops then after a step
        limit = ("--minutes", f"{max(minutes, 0.001):.3f}") if step.checkpoint else ()
        self.command((*step.words, *limit))
        if before is not None and self._records(step) != before:
            raise ArtifactError(
                f"{step.results[0]} is no more what it was, and other results depend on it: this machine gives another "
                "one. Bring the pieces of the machine where the run began, or delete its results and artifacts"
            )
        self.journal.add(step.name, identities(self.steps)[step.name])
        needed = needed_by(self.left)
        for other in self.steps:
            if other.temporary and other.makes is not None and other.name not in needed:
                shutil.rmtree(other.makes, ignore_errors=True)
        if step.results or step.carried:
            self.keep()

    def _records(self, step: Step) -> list[dict[str, object]] | None:
        """Of a step that was done with the same settings: what it gave."""
        same = self.journal.done.get(step.name) == identities(self.steps)[step.name]
        return load_result(step.results[0]).records if same and step.results[0].exists() else None

    def keep(self) -> None:
        """Write the pieces, if there is anything and they are asked for."""
        if self.pieces is None or not self.journal.done:
            return
        roots = {"results": self.results, "artifacts": self.artifacts}
        for item in save_pieces(self.pieces, self.run, self.journal.saved, roots, self._items()):
            print(f"steps: {item} does not fit in the pieces; it will be made again", file=sys.stderr, flush=True)

    def _items(self) -> list[Item]:
        """What is worth keeping, the most important first."""
        left, there = self.left, [self.journal.path, *([self.results] if self.results.exists() else [])]
        needed, doing = needed_by(left), {step.name for step in left}
        items = [Item("results", there)]
        for step in self.steps:
            if step.carried and step.makes and step.makes.exists() and step.name in needed - doing:
                items.append(Item(step.name.replace(" ", "-"), [step.makes]))
        for step in left:
            if step.checkpoint and step.checkpoint.exists():
                items.append(Item(f"checkpoint-{step.checkpoint.name}", [step.checkpoint]))
        return items
