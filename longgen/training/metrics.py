"""The numbers of a training run while it goes on: a line of JSON per step, and TensorBoard or Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from longgen.errors import ConfigError
from longgen.files import atomic_file, writing

METRICS = "metrics.jsonl"
JSON_LINES = "jsonl"  # the writer that writes always


class Writer(Protocol):
    """Takes the numbers of a step."""

    def write(self, step: int, values: dict[str, float | int | str | None]) -> None:
        """Numbers of ``step``, from 1."""

    def close(self) -> None:
        """Write what is left."""


class JsonLines:
    """``metrics.jsonl``, a line per step; a resumed run drops the lines of the steps that it repeats."""

    def __init__(self, folder: Path, run: str, identity: str, done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS
        earlier_lines = []
        for line in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                if json.loads(line)["step"] <= done:
                    earlier_lines.append(line)
            except ValueError:  # the line that was being written when the run was killed
                continue
        with atomic_file(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in earlier_lines), "utf-8")
        self.path = path
        self.file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a line."""
        with writing(self.path):
            self.file.write(json.dumps({"step": step} | values) + "\n")

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """Event files for `tensorboard --logdir`; extra ``tensorboard``."""

    def __init__(self, folder: Path, run: str, identity: str, done: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        # steps that are repeated take the place of what a killed run wrote of them
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a point to every curve."""
        for name, value in values.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class WeightsAndBiases:
    """A run of project ``longgen`` at Weights & Biases; extra ``wandb``. ``WANDB_MODE=offline`` sends nothing."""

    def __init__(self, folder: Path, run: str, identity: str, done: int) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(project="longgen", name=run, id=identity, resume="allow", dir=str(folder))

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a point to every curve."""
        self.run.log({name: value for name, value in values.items() if value is not None}, step=step)

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()


WRITERS: dict[str, Callable[[Path, str, str, int], Writer]] = {
    JSON_LINES: JsonLines,
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


class Metrics:
    """Sends the numbers of a step to all writers that were asked for.

    Args:
        folder: for what they write; None: nothing is written.
        names: of writers; ``jsonl`` writes always.
        run: name of the run.
        identity: of the run: what writes to a service goes on with the curves of the same one.
        done: steps that are done, of which no number comes again.
        write: False in all processes but one.

    Raises:
        ConfigError: an unknown name, or its package is not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        names: Sequence[str] = (),
        run: str = "",
        identity: str = "",
        done: int = 0,
        write: bool = True,
    ) -> None:
        for name in names:
            if name not in WRITERS:
                raise ConfigError(f"--report-to is {name!r}: allowed are {', '.join(WRITERS)}")
        if names and folder is None:
            raise ConfigError(f"--report-to is {', '.join(names)} without --metrics, the folder to write to")
        self.writers: list[Writer] = []
        if folder is not None and write:
            self.writers = [WRITERS[name](folder, run, identity, done) for name in dict.fromkeys([JSON_LINES, *names])]

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Numbers of ``step``, from 1; one that is not known is None."""
        for writer in self.writers:
            writer.write(step, values)

    def close(self) -> None:
        """Write what is left."""
        for writer in self.writers:
            writer.close()


def _missing(extra: str) -> ConfigError:
    return ConfigError(f"--report-to is {extra!r}, which is not installed: pip install 'longgen[{extra}]'")
