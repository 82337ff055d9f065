"""A measuring session of training steps: what is done, what fits in memory and time; results are on disk at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch

from longgen.profiling.attention.session import NOT_MEASURED, Budget, ResultFile, attempt, is_done, no_time_for
from longgen.profiling.attention.workloads import PATTERNS
from longgen.profiling.busy import Watch
from longgen.profiling.device import free_main_memory, free_memory, least_flops, peak_flops, precision_on
from longgen.profiling.inference.memory import why_not
from longgen.profiling.rounds import FEWEST_ROUNDS, alternating_rounds
from longgen.profiling.stacks import MOST_LAYERS, is_large_for, is_trial, slices
from longgen.profiling.training.cases import step_flops
from longgen.profiling.training.pieces import LAYER_KINDS, PARTS
from longgen.profiling.training.records import Record, composed_records, describe, part_records, records_of
from longgen.progress import progress_bar, say
from longgen.provenance import provenance
from longgen.results import Result
from longgen.shapes import ModelShape

KIND = "training-speed"
KEY = ("what", "shape", "length", "num_layers", "full_layers", "pattern")

SECONDS_TO_START = 30.0  # for the time budget: until the first step
FORECAST_TOKENS = 4096  # at which attention is timed first: what it takes at the full length follows from that


def open_training_file(folder: Path, name: str, device: str, trial: bool) -> ResultFile:
    """The results file of run ``name`` below ``folder``, with what an earlier session of the same code left in it.

    Of a ``trial`` of the code, at tiny sizes on a CPU, and of true shapes it is not the same file.

    Raises:
        ArtifactError: as `ResultFile.open`.
    """
    settings = {
        "dtype": precision_on(device, trial),
        "tiny": trial,
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
    cases = list(cases)
    with progress_bar(len(cases), "training", "case") as bar:
        for shape, length in cases:
            base = describe(shape, length, precision_on(device, is_trial(device, shape)))
            done = any(
                is_done(old)
                for old in file.result.records
                if old["shape"] == base["shape"] and old["length"] == base["length"]
            )
            if not done:
                if is_large_for(device, shape):
                    measure = partial(_measure_parts, shape, length, budget)
                else:
                    measure = partial(_measure, shape, length, device, budget, most_layers)
                outcome = attempt(measure, (), budget, SECONDS_TO_START)
                records = outcome.pop("records", [base])
                file.drop(base, ("shape", "length"))
                for record in records:
                    file.put(record | outcome)
                free_memory(device)
            bar.update()


def _seconds_needed(shape: ModelShape, length: int, device: str, num_layers: int) -> float:
    flops = sum(step_flops(stack, shape, length, recompute=True) for stack in slices(num_layers))
    return SECONDS_TO_START + (1 + FEWEST_ROUNDS) * flops / least_flops(device)


def _measure(shape: ModelShape, length: int, device: str, budget: Budget, most_layers: int) -> Record:
    """``records`` of one shape and length, with as many layers as fit; another status if there is no time for these."""
    from longgen.profiling.training.slice import layers_that_fit

    free_memory(device)
    notes: list[str] = []
    precision = precision_on(device, is_trial(device, shape))
    for num_layers in layers_that_fit(shape, length, device, precision, most_layers):
        needed = _seconds_needed(shape, length, device, num_layers)
        if budget.left() < needed:
            return {"status": NOT_MEASURED, "reason": "; ".join([*notes, no_time_for(needed)])}
        try:
            found = _time_slices(shape, num_layers, length, device, budget)
            return {"records": [record | {"note": "; ".join(notes) or None} for record in found]}
        except torch.OutOfMemoryError:
            notes.append(f"{num_layers} layers ran out of memory")
        free_memory(device)  # only now: the exception held the model
    raise ValueError("; ".join(notes))


def _measure_parts(shape: ModelShape, length: int, budget: Budget) -> Record:
    """``records`` of one shape and length on a CPU; another status if there is no time for a round.

    Raises:
        ValueError: the parts are predicted not to fit in the memory that is free.
    """
    from longgen.profiling.training.parts import TrainingParts, needed_bytes

    precision = precision_on("cpu")
    dtype = getattr(torch, precision)
    needed, available = needed_bytes(shape, length, dtype.itemsize), free_main_memory()
    if reason := why_not(needed, available, "main memory that is free"):
        raise ValueError(f"the parts of a layer: {reason}")
    model = TrainingParts(shape, length, dtype)
    seconds = sum(model.forecast(kind, min(FORECAST_TOKENS, length)) for kind in LAYER_KINDS)
    # they have run before, too, when they are timed
    seconds += sum(model.time(part).seconds for part in PARTS if part not in LAYER_KINDS)
    if budget.left() < seconds:
        return {"status": NOT_MEASURED, "reason": no_time_for(seconds)}
    say(f"training of {shape.name} at {length:,} tokens", seconds)
    with Watch() as watch:
        pieces = alternating_rounds(PARTS, model.time, budget, fewest=1)
    records, rounds = part_records(shape, length, precision, pieces)
    records += composed_records(shape, length, precision, rounds, None)
    used = {"full_kernel": model.kernels["full"], "sparse_kernel": model.kernels["sparse"]}
    return {"records": [record | used | watch.columns() for record in records]}


def _time_slices(shape: ModelShape, num_layers: int, length: int, device: str, budget: Budget) -> list[Record]:
    from longgen.profiling.training.slice import TrainingSlice, fastest_full_kernel

    precision = precision_on(device, is_trial(device, shape))
    kernel = fastest_full_kernel(shape, length, device, getattr(torch, precision))
    free_memory(device)
    model = TrainingSlice(shape, num_layers, length, device, precision, kernel)
    stacks = slices(num_layers)
    for stack in stacks:  # compiles, and makes the optimizer's state
        model.step(stack)
    with Watch() as watch:
        steps = alternating_rounds(stacks, model.step, budget)
    seconds = {stack: [step.seconds for step in taken] for stack, taken in steps.items()}
    peaks = {stack: taken[-1].peak_bytes for stack, taken in steps.items()}
    records = records_of(shape, length, precision, seconds, peaks, peak_flops(device))
    used = {"full_kernel": model.kernels["full"], "sparse_kernel": model.kernels["sparse"]}
    return [record | used | watch.columns() for record in records]
