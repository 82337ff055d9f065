"""Stopping after a step, with a checkpoint: on a signal, as a cluster sends it, or when a given time is over."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from longgen.errors import TrainingStoppedError
from longgen.training.parallel.processes import Processes

# What Slurm sends before the time limit (`sbatch --signal=USR1@300`), and at pre-emption or `scancel`.
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class StopRequest:
    """Takes note of `SIGNALS` while it is entered, in place of what they do otherwise.

    Signals reach the processes of a run one by one, between any two of their operations: `agreed` makes all of them
    stop at the same step. Outside the main thread, which alone can be told of signals, it notes nothing.

    Args:
        deadline: on the clock of `time.monotonic`; when it has passed, that is as SIGUSR1.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.number, self.deadline = 0, deadline
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A process that stopped is about to end. When another one is there first, Slurm sends SIGTERM to the rest: they
        # would lose the exit code by which the job is to go on.
        stopped = isinstance(error, TrainingStoppedError)
        for name, handler in self._before.items():
            signal.signal(name, signal.SIG_IGN if stopped else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = max(self.number, number)

    def agreed(self, processes: Processes) -> int:
        """The signal that any of the processes was sent, 0 if none was; called by all of them, with the same answer."""
        if time.monotonic() >= self.deadline:
            self.number = max(self.number, signal.SIGUSR1)
        return processes.largest(self.number)
