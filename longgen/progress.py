"""Progress bars for long steps; sparse lines instead of a moving bar where the output is not a terminal."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from tqdm import tqdm


def is_first() -> bool:
    """Whether this is the only process, or the first of those that torchrun or Slurm started: it speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def say(what: str, seconds: float) -> None:
    """Tell beside the bar that ``what`` begins, and how long a round of it is predicted to take, if that is long."""
    if seconds >= 60:
        tqdm.write(f"{what}: a round is predicted to take {seconds / 60:,.1f} minutes", file=sys.stderr)


def progress_bar(total: int, description: str, unit: str, done: int = 0, quiet: bool = False) -> tqdm[NoReturn]:
    """A bar on standard error for ``total`` units of which ``done`` are done; use as a context manager.

    Of several processes only the first shows it; with ``quiet``, or TQDM_DISABLE=1 in the environment, none.
    """
    silence: dict[str, Any] = {"disable": True} if quiet or not is_first() else {}  # else tqdm asks the environment
    interval = 0.5 if sys.stderr.isatty() else 20.0
    return tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
        file=sys.stderr,
        **silence,
    )
