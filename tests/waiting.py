"""Waiting for what other processes do: the only clock of the tests, and one that decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

PATIENCE = 1800.0  # seconds: what has not come by then never will, however busy the machine is


def wait_until(holds: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Ask ``holds`` until it does; AssertionError ``what`` if it never does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, what if isinstance(what, str) else what()
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Whether the process of this id goes on; one that has ended does not, though nobody has asked how."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
