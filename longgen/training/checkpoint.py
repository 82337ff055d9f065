"""Checkpoints for exact resume: safetensors and JSON only, nothing is unpickled; complete or absent, never half."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from longgen.errors import ArtifactError
from longgen.files import atomic_directory, write_json


@dataclass
class Progress:
    """Where a training run stands.

    Attributes:
        fingerprint: of everything that determines the run; a checkpoint of another run is not resumed.
        step: optimizer steps done, over all phases.
        seconds: wall-clock time spent training, over all attempts.
        records: the log so far, see docs/results-format.md.
    """

    fingerprint: str
    step: int = 0
    seconds: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], progress: Progress
) -> None:
    """Replace the checkpoint at ``folder``."""
    states = {
        f"{number}.{index}.{key}": value.contiguous()
        for number, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    with atomic_directory(folder) as temporary:
        weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
        save_file(weights, temporary / "model.safetensors")
        save_file(states, temporary / "optimizer.safetensors")
        write_json(temporary / "progress.json", vars(progress))


def load_checkpoint(
    folder: Path, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], fingerprint: str
) -> Progress:
    """Load the checkpoint at ``folder`` into ``model`` and ``optimizers`` if it belongs to this run.

    Returns:
        its progress, or that of a fresh start if there is no checkpoint of ``fingerprint``.

    Raises:
        ArtifactError: the checkpoint is of this run but damaged.
    """
    if not (folder / "progress.json").is_file():
        return Progress(fingerprint)
    try:
        progress = Progress(**json.loads((folder / "progress.json").read_text("utf-8")))
        if progress.fingerprint != fingerprint:
            return Progress(fingerprint)
        saved = load_file(folder / "model.safetensors")
        states = load_file(folder / "optimizer.safetensors")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(saved[name])
        _restore(optimizers, states)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"checkpoint {folder} is damaged ({error}): delete it to start this stage anew") from error
    return progress


def _restore(optimizers: list[torch.optim.Optimizer], states: dict[str, torch.Tensor]) -> None:
    for number, optimizer in enumerate(optimizers):
        whole = optimizer.state_dict()
        for name, value in states.items():
            owner, index, key = name.split(".", 2)
            if int(owner) == number:
                whole["state"].setdefault(int(index), {})[key] = value
        optimizer.load_state_dict(whole)
