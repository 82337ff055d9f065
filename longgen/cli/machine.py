"""What the machine computes with: threads, and the dtype that it has instructions for."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from longgen.config import Experiment
from longgen.hardware import computed_dtype


def use_threads(threads: int) -> None:
    """Limit PyTorch to ``threads`` CPU threads unless 0."""
    if threads:
        torch.set_num_threads(threads)


def torch_dtype(name: str, device: str) -> torch.dtype:
    """What computes on ``device`` with ``--dtype name``, one of `longgen.hardware.ModelDtype`."""
    return getattr(torch, _dtype_on(device, name))


def on_this_machine(experiment: Experiment, *parts: str, device: str | None = None) -> Experiment:
    """``experiment`` with the dtype that computes (`longgen.hardware.computed_dtype`) in ``parts`` that it has.

    Args:
        experiment: as configured.
        parts: names of those with a dtype.
        device: that computes; None: each part's own.
    """
    parts_here = {}
    for name in parts:
        part = getattr(experiment, name)
        if part is not None:
            parts_here[name] = replace(part, dtype=_dtype_on(device or part.device, part.dtype))
    return replace(experiment, **parts_here)


def _dtype_on(device: str, dtype: str) -> str:
    """The dtype that computes on ``device``; says so if it is not ``dtype``."""
    actual = computed_dtype(dtype, device)
    if actual != dtype:
        print(f"longgen: this processor has no instructions for {dtype}: {actual} computes instead", file=sys.stderr)
    return actual
