"""Processes end with those for whom they work: a starter that is killed by SIGKILL cannot tell them to.

The environment variable LONGGEN_ENDS_WITH names processes of this machine, with commas: Snakemake and torchrun. Every
command ends, as by SIGKILL, when one of them is gone: checkpoints are whole or not there, and nobody writes beside the
run that takes over.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path

ENDS_WITH = "LONGGEN_ENDS_WITH"
_OF_TORCHRUN = "TORCHELASTIC_RUN_ID"  # in the environment of the processes that it starts, which are its children


def end_with_starter(environment: Mapping[str, str] = os.environ) -> None:
    """End this process when one that ``environment`` names is gone, or torchrun, if that has started this one."""
    starters = [int(word) for word in environment.get(ENDS_WITH, "").split(",") if word]
    of_torchrun = _OF_TORCHRUN in environment and not starters
    if of_torchrun and _takes_orphans(os.getppid()):  # killed before we could ask who it is
        os.kill(os.getpid(), signal.SIGKILL)
    for process in starters or ([os.getppid()] if of_torchrun else []):
        if process != os.getpid():  # the launcher has become this one
            end_with(process)


def _takes_orphans(process: int) -> bool:
    """Whether that is what children of a process that is gone belong to, and so nobody who started this one.

    In a container the first process may be torchrun itself, and that is Python.
    """
    try:
        program = Path(Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")[0]).name
    except OSError:
        return False  # there is no telling
    return program == "systemd" or (process == 1 and not program.startswith(("python", "torchrun")))


def end_with(process: int) -> None:
    """End this process when the one of that id is gone; at once if it is. Does nothing outside Linux."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        _end_after(os.pidfd_open(process))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
    except OSError:  # an old kernel, or a container that forbids it
        return


def end_with_parent() -> None:
    """For a process of `multiprocessing`: end it when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        _end_after(parent.sentinel)


def _end_after(sentinel: int) -> None:
    """End this process when the file descriptor ``sentinel``, which stands for another one, says that it is gone."""

    def end() -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()
