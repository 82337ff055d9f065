"""Checkpoints for exact resume: PyTorch's distributed checkpoints as safetensors, and JSON beside them.

Nothing is unpickled. A checkpoint is complete or absent, never half. Every process writes its own part; any number of
processes can go on from it.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as distributed
from safetensors import SafetensorError
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from longgen.errors import ArtifactError, OutputError
from longgen.files import write_json, writing
from longgen.foreign import last_line
from longgen.records.experiment import TrainingRecord
from longgen.records.schema import row_of
from longgen.training.parallel.processes import Processes

PROGRESS = "progress.json"
UNFINISHED = ".unfinished"


@dataclass
class Progress:
    """Where a training run stands.

    Attributes:
        fingerprint: of everything that determines the run; a checkpoint of another run is not resumed.
        step: optimizer steps done, over all phases.
        seconds: wall-clock time spent training, over all attempts.
        records: the log so far, see docs/results-format.md.
        unrecorded: numbers of the steps since the last record.
    """

    fingerprint: str
    step: int = 0
    seconds: float = 0.0
    records: list[TrainingRecord] = field(default_factory=list)
    unrecorded: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
    processes: Processes | None = None,
    keep: int = 1,
) -> None:
    """Add a checkpoint to ``folder``; called by all processes.

    Args:
        folder: of a run's checkpoints, on a file system that all processes see.
        model: whose trained parameters are saved, sharded or not.
        optimizers: of these parameters.
        progress: where the run stands.
        processes: who takes part; None for one process.
        keep: how many checkpoints to keep, the new one included.

    Raises:
        OutputError: there is no room; what was there before stays as it was.
    """
    unfinished = folder / f"{UNFINISHED}-{progress.step:08d}"
    try:
        with writing(folder, "make room, and the same command goes on from the last checkpoint there"):
            _save(folder, unfinished, model, optimizers, progress, processes or Processes(), keep)
    except OutputError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _save(
    folder: Path,
    unfinished: Path,
    model: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    progress: Progress,
    processes: Processes,
    keep: int,
) -> None:
    if processes.rank == 0:
        for stale in folder.glob(f"{UNFINISHED}-*"):  # a run was killed while it saved
            shutil.rmtree(stale)
        unfinished.mkdir(parents=True)
    processes.wait()
    with without_warnings():
        distributed.save(
            _states(model, optimizers),
            storage_writer=HuggingFaceStorageWriter(str(unfinished), save_distributed=True),
            no_dist=processes.mesh is None,
        )
    processes.wait()
    if processes.rank == 0:
        write_json(unfinished / PROGRESS, vars(progress) | {"records": list(map(row_of, progress.records))})
        finished = folder / f"step-{progress.step:08d}"
        if finished.exists():  # of another run
            shutil.rmtree(finished)
        unfinished.rename(finished)
        latest = [path for path, _ in _own_checkpoints(folder, progress.fingerprint)[:keep]]
        for old in folder.glob("step-*"):  # those of another run too, which may have gone further
            if old not in latest:
                shutil.rmtree(old)
    processes.wait()


def load_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizers: list[torch.optim.Optimizer],
    fingerprint: str,
    processes: Processes | None = None,
) -> Progress:
    """Load the latest checkpoint in ``folder`` into ``model`` and ``optimizers`` if it belongs to this run.

    Returns:
        its progress, or that of a fresh start if there is no checkpoint of ``fingerprint``.

    Raises:
        ArtifactError: the checkpoint is of this run but damaged.
    """
    processes = processes or Processes()
    checkpoints = _own_checkpoints(folder, fingerprint)
    if not checkpoints:
        return Progress(fingerprint)
    latest, progress = checkpoints[0]
    try:
        _make_room(latest, model, optimizers)
        with without_warnings():
            distributed.load(
                _states(model, optimizers),
                storage_reader=HuggingFaceStorageReader(str(latest)),
                no_dist=processes.mesh is None,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, CheckpointException) as error:
        raise _damaged(latest, error) from error
    return progress


def _own_checkpoints(folder: Path, fingerprint: str) -> list[tuple[Path, Progress]]:
    """The complete checkpoints of a run, the latest first. Raises ArtifactError if one is damaged."""
    checkpoints = []
    for path in sorted(folder.glob(f"step-*/{PROGRESS}"), reverse=True):
        try:
            value = json.loads(path.read_text("utf-8"))
            progress = Progress(**value | {"records": [TrainingRecord(**record) for record in value["records"]]})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _damaged(path.parent, error) from error
        if progress.fingerprint == fingerprint:
            checkpoints.append((path.parent, progress))
    return checkpoints


def _damaged(checkpoint: Path, error: BaseException) -> ArtifactError:
    return ArtifactError(
        f"checkpoint {checkpoint} is damaged ({last_line(error)}): delete it to go on from the one before it, or anew"
    )


def _states(model: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Everything to save, by name: the tensors themselves, to be read from or written to. Not what is not trained."""
    trained = ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    states = {f"model.{name}": parameter.detach() for name, parameter in trained}
    for name, parameter, optimizer in _parameters(model, optimizers):
        for key, value in optimizer.state[parameter].items():
            states[f"optimizer.{name}.{key}"] = value
    return states


def _parameters(
    model: torch.nn.Module, optimizers: list[torch.optim.Optimizer]
) -> Iterator[tuple[str, torch.nn.Parameter, torch.optim.Optimizer]]:
    """Every parameter with its name and optimizer."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter, optimizer


def _make_room(folder: Path, model: torch.nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Give the optimizers, which make their state in their first step, the tensors that the checkpoint has."""
    saved = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    for name, parameter, optimizer in _parameters(model, optimizers):
        prefix = f"optimizer.{name}."
        for full_name, entry in saved.items():
            if full_name.startswith(prefix) and isinstance(entry, TensorStorageMetadata):
                scalar = not entry.size  # steps are counted in float32 whatever the parameter is
                value = torch.zeros((), dtype=entry.properties.dtype) if scalar else torch.zeros_like(parameter)
                optimizer.state[parameter][full_name.removeprefix(prefix)] = value


def without_warnings() -> warnings.catch_warnings:
    """Without PyTorch's remark that a single process saves alone."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
