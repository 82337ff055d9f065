"""A measuring session of training steps: what is done, what fits in memory and time; results are on disk at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from longgen.planner.gpus import gpu_of_device
from longgen.profiling.attention.session import NOT_MEASURED, Budget, ResultFile, attempt, is_done
from longgen.profiling.attention.workloads import PATTERNS
from longgen.profiling.training.cases import MOST_LAYERS, Stack, slices
from longgen.profiling.training.records import Record, describe, records_of
from longgen.progress import progress_bar
from longgen.provenance import provenance
from longgen.results import Result
from longgen.shapes import ModelShape

if TYPE_CHECKING:
    from longgen.profiling.training.slice import Precision, Step, TrainingSlice

KIND = "training-speed"
KEY = ("what", "shape", "length", "num_layers", "full_layers", "pattern")

# Rounds that count, after one that warms up: more than the fewest as long as they have not taken so many seconds.
FEWEST_ROUNDS, MOST_ROUNDS, ROUNDS_SECONDS = 3, 7, 40.0
# For the time budget: the share of the peak that is reached at least, and seconds until the first step.
LEAST_EFFICIENCY, SECONDS_TO_START = 0.35, 30.0


def precision_on(device: str) -> Precision:
    """As training is done there."""
    return "float32" if device == "cpu" else "bfloat16"


def open_training_file(folder: Path, name: str, device: str) -> ResultFile:
    """The results file of run ``name`` below ``folder``, with what an earlier session of the same code left in it.

    Raises:
        ArtifactError: as `ResultFile.open`.
    """
    settings = {
        "dtype": precision_on(device),
        "tiny": device == "cpu",
        "batch": 1,
        "recompute": True,
        "optimizer": "adamw",
        "patterns": {pattern: sizes.to_dict() for pattern, sizes in PATTERNS.items()},
    }
    result = Result(KIND, name, [], provenance(settings, seed=0, device=device), settings=settings)
    return ResultFile.open(folder / name / "kernels" / f"{KIND}.json", result, KEY)


def profile_training(
    file: ResultFile,
    cases: Iterable[tuple[ModelShape, int]],
    device: str,
    budget: Budget,
    most_layers: int = MOST_LAYERS,
) -> None:
    """Time the training step of slices, and compose whole models of them.

    Args:
        file: where the records go; what it holds already is not measured again.
        cases: shapes of whole models, with tokens of a row.
        device: ``cpu`` or ``cuda``.
        budget: of the session.
        most_layers: of a slice; fewer where so many do not fit in memory.
    """
    cases, dtype = list(cases), precision_on(device)
    with progress_bar(len(cases), "training", "case") as bar:
        for shape, length in cases:
            base = describe(shape, length, dtype)
            done = any(
                is_done(old)
                for old in file.result.records
                if old["shape"] == base["shape"] and old["length"] == base["length"]
            )
            if not done:
                measure = partial(_measure, shape, length, device, budget, most_layers)
                outcome = attempt(measure, (), budget, SECONDS_TO_START)
                records = outcome.pop("records", [base])
                file.drop(base, ("shape", "length"))
                for record in records:
                    file.put(record | outcome)
                _free_memory(device)
            bar.update()


def _seconds_needed(shape: ModelShape, length: int, device: str, num_layers: int) -> float:
    peak = _peak_flops(device)
    if peak is None:
        return SECONDS_TO_START
    flops = sum(stack.flops(shape, length, recompute=True) for stack in slices(num_layers))
    return SECONDS_TO_START + (1 + FEWEST_ROUNDS) * flops / (LEAST_EFFICIENCY * peak)


def _measure(shape: ModelShape, length: int, device: str, budget: Budget, most_layers: int) -> Record:
    """``records`` of one shape and length, with as many layers as fit; another status if there is no time for these."""
    from longgen.profiling.training.slice import layers_that_fit

    _free_memory(device)
    notes: list[str] = []
    for num_layers in layers_that_fit(shape, length, device, precision_on(device), most_layers):
        if budget.left() < _seconds_needed(shape, length, device, num_layers):
            return {"status": NOT_MEASURED, "reason": "; ".join([*notes, "no time left"])}
        try:
            found = _time_slices(shape, num_layers, length, device, budget)
            return {"records": [record | {"note": "; ".join(notes) or None} for record in found]}
        except torch.OutOfMemoryError:
            notes.append(f"{num_layers} layers ran out of memory")
        _free_memory(device)  # only now: the exception held the model
    raise ValueError("; ".join(notes))


def _time_slices(shape: ModelShape, num_layers: int, length: int, device: str, budget: Budget) -> list[Record]:
    from longgen.profiling.training.slice import TrainingSlice, fastest_full_kernel

    precision = precision_on(device)
    kernel = fastest_full_kernel(shape, length, device, getattr(torch, precision))
    _free_memory(device)
    model = TrainingSlice(shape, num_layers, length, device, precision, kernel)
    steps = _rounds(model, slices(num_layers), budget)
    seconds = {stack: [step.seconds for step in taken] for stack, taken in steps.items()}
    peaks = {stack: taken[-1].peak_bytes for stack, taken in steps.items()}
    records = records_of(shape, length, precision, seconds, peaks, _peak_flops(device))
    used = {"full_kernel": model.kernels["full"], "sparse_kernel": model.kernels["sparse"]}
    return [record | used for record in records]


def _rounds(model: TrainingSlice, stacks: list[Stack], budget: Budget) -> dict[Stack, list[Step]]:
    """Steps of every slice in turn, in alternating order: what one leaves behind favours no other."""
    for stack in stacks:  # compiles, and makes the optimizer's state
        model.step(stack)
    steps: dict[Stack, list[Step]] = {stack: [] for stack in stacks}
    started = time.monotonic()
    for count in range(MOST_ROUNDS):
        spent = time.monotonic() - started
        if count >= FEWEST_ROUNDS and (spent > ROUNDS_SECONDS or budget.left() < 2 * spent / count):
            break
        for stack in reversed(stacks) if count % 2 else stacks:
            steps[stack].append(model.step(stack))
    return steps


def _peak_flops(device: str) -> float | None:
    gpu = None if device == "cpu" else gpu_of_device(torch.cuda.get_device_name(device))
    return None if gpu is None else gpu.flops(precision_on(device))


def _free_memory(device: str) -> None:
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
