"""Doing something in the midst of a step of training: at the same one however busy the machine is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from longgen.training import loop
from longgen.training.checkpoint import Progress


def during_step(step: int, act: Callable[[], object]) -> None:
    """Call ``act`` when this process begins optimizer step ``step`` of a run, from 1 over all phases and attempts."""
    load, compute = loop.load_checkpoint, loop.compute_gradients
    progress: list[Progress] = []

    def loaded(*arguments: Any) -> Progress:
        progress[:] = [load(*arguments)]
        return progress[0]

    def computed(*arguments: Any) -> Any:
        if progress[0].step + 1 == step:
            act()
        return compute(*arguments)

    loop.load_checkpoint, loop.compute_gradients = loaded, computed


def signalled_in(step: int, number: int, function: Callable[..., object], *arguments: Any) -> None:
    """For a process of its own: call ``function(*arguments)``, and send this process signal ``number`` in ``step``."""
    during_step(step, lambda: os.kill(os.getpid(), number))
    function(*arguments)
