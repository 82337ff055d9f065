"""Stage ``training-speed``: the training step of slices of a model, or of parts of its layers, and of the whole model.

Slices are a few layers of true shape (`longgen.profiling.training_slice`), as many as fit. On a CPU a single layer of
true shape is composed of parts (`longgen.profiling.training_parts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch

from longgen.profiling.composition import (
    HEAD,
    LAYER_KINDS,
    PARTS,
    REST,
    TOKENS,
    UPDATE,
    PartTime,
    StackTimes,
    comparison_columns,
    composed_times,
    parts_by_round,
    seconds_of_parts,
)
from longgen.profiling.device import free_main_memory, free_memory, peak_flops, precision_on, why_not
from longgen.profiling.rounds import SECONDS_TO_START, alternating_rounds, predicted_seconds, time_columns, within
from longgen.profiling.session import Budget, Columns, Stage
from longgen.profiling.stacks import (
    MOST_LAYERS,
    TINY,
    Stack,
    is_large_for,
    measure_most_layers,
    precision_of,
    slices,
    whole_models,
)
from longgen.profiling.table import number, speed_table, timed_cells
from longgen.profiling.workloads import FULL, PATTERNS
from longgen.progress import say
from longgen.records.kernels import TrainingSpeedRecord
from longgen.records.speed import (
    COMPOSED_LAYER,
    COMPOSED_MODEL,
    COMPOSED_REST,
    PART_ATTENTION,
    PART_HEAD,
    PART_LAYER,
    PART_UPDATE,
    SLICE,
)
from longgen.shapes import MODEL_SHAPES, ModelShape

FORECAST_TOKENS = 4096  # at which attention is timed first: what it takes at the full length follows from that

_HEADINGS = ("what", "model", "tokens", "layers", "full", "pattern", "ms", "speed-up", "ideal", "MFU", "GiB")


class TrainingCase(NamedTuple):
    """One thing to time: a step on one row.

    Attributes:
        shape: of the whole model.
        length: tokens of the row.
    """

    shape: ModelShape
    length: int

    def record(self, what: str, dtype: str, stack: Stack | None = None, **columns: Any) -> TrainingSpeedRecord:
        """A record of this case with the measured ``columns``; ``dtype`` of weights and activations in the layers."""
        layers = asdict(stack) if stack else {}
        return TrainingSpeedRecord.blank(
            what=what, shape=self.shape.name, length=self.length, dtype=dtype, **layers, **columns
        )

    def flops(self, stack: Stack, recompute: bool = False) -> int:
        """Floating-point operations of a step of ``stack`` (`Model.training_flops`)."""
        return stack.model(self.shape).training_flops(self.length, recompute=recompute)


class TrainingSpeed(Stage[TrainingCase, TrainingSpeedRecord]):
    """A step on one row of tokens, with every layer recomputed and AdamW.

    Args:
        device: ``cpu`` or ``cuda``.
        trial: the code is only tried out, at tiny sizes on a CPU: that and true shapes are not of the same file.
        most_layers: of a slice; fewer where so many do not fit in memory.
    """

    kind, title, makes_models = "training-speed", "training", True
    key = ("shape", "length")

    def __init__(self, device: str, trial: bool, most_layers: int = MOST_LAYERS) -> None:
        self.device, self._trial, self._most_layers = device, trial, most_layers
        self.settings = {
            "dtype": precision_on(device, trial),
            "tiny": trial,
            "batch": 1,
            "recompute": True,
            "optimizer": "adamw",
            "patterns": {pattern: sizes.to_dict() for pattern, sizes in PATTERNS.items()},
        }

    def first_cases(self) -> list[TrainingCase]:
        return [TrainingCase(TINY, 512) if self._trial else TrainingCase(MODEL_SHAPES["llama2-7b"], 131072)]

    def more_cases(self) -> list[TrainingCase]:
        if self._trial:
            return [TrainingCase(TINY, 1024)]
        small, large = MODEL_SHAPES["llama2-7b"], MODEL_SHAPES["llama2-70b"]
        sizes = [(small, 32768), (small, 65536), (large, 131072), (large, 32768), (small, 8192), (small, 4096)]
        return [TrainingCase(*each) for each in sizes]

    def blank(self, case: TrainingCase) -> TrainingSpeedRecord:
        return case.record(SLICE, precision_of(self.device, case.shape))

    def seconds_to_start(self, case: TrainingCase) -> float:
        return SECONDS_TO_START

    def measure(self, case: TrainingCase, budget: Budget) -> list[TrainingSpeedRecord]:
        if is_large_for(self.device, case.shape):
            return _measure_parts(case, budget)
        return _measure_slices(case, self.device, budget, self._most_layers)

    def table(self, records: Sequence[TrainingSpeedRecord]) -> str:
        return speed_table(_HEADINGS, records, _cells, _subject, keys=6, words=2)


def _measure_slices(case: TrainingCase, device: str, budget: Budget, most_layers: int) -> list[TrainingSpeedRecord]:
    """With as many layers as fit."""
    from longgen.profiling.training_slice import layers_that_fit

    def measure(num_layers: int, notes: list[str]) -> list[TrainingSpeedRecord]:
        flops = sum(case.flops(stack, recompute=True) for stack in slices(num_layers))
        budget.require(predicted_seconds(flops, device), notes)
        return _time_slices(case, num_layers, device, budget)

    free_memory(device)
    counts = layers_that_fit(case.shape, case.length, device, precision_of(device, case.shape), most_layers)
    return measure_most_layers(counts, measure, device)


def _time_slices(case: TrainingCase, num_layers: int, device: str, budget: Budget) -> list[TrainingSpeedRecord]:
    from longgen.profiling.fastest import fastest_training_kernel
    from longgen.profiling.training_slice import TrainingSlice

    precision = precision_of(device, case.shape)
    kernel = fastest_training_kernel(*case, device, getattr(torch, precision))
    free_memory(device)
    model = TrainingSlice(case.shape, num_layers, case.length, device, precision, kernel)
    stacks = slices(num_layers)
    for stack in stacks:  # compiles, and makes the optimizer's state
        model.step(stack)
    steps, busy = alternating_rounds(stacks, model.step, within(budget))
    seconds = {stack: [step.seconds for step in rounds] for stack, rounds in steps.items()}
    peaks = {stack: rounds[-1].peak_bytes for stack, rounds in steps.items()}
    records = records_of(case, precision, seconds, peaks, peak_flops(device))
    return _of_rounds(records, model.kernels, busy)


def _of_rounds(
    records: Sequence[TrainingSpeedRecord], kernels: Mapping[str, str], busy: Columns
) -> list[TrainingSpeedRecord]:
    """With what all records of the same rounds share."""
    return [replace(record, full_kernel=kernels["full"], sparse_kernel=kernels["sparse"], **busy) for record in records]


def _measure_parts(case: TrainingCase, budget: Budget) -> list[TrainingSpeedRecord]:
    """On a CPU. Raises ValueError if the parts are predicted not to fit in the memory that is free."""
    from longgen.profiling.training_parts import TrainingParts, needed_bytes

    precision = precision_on("cpu")
    dtype = getattr(torch, precision)
    if reason := why_not(needed_bytes(*case, dtype.itemsize), free_main_memory(), "main memory that is free"):
        raise ValueError(f"the parts of a layer: {reason}")
    model = TrainingParts(*case, dtype)
    seconds = sum(model.forecast(kind, min(FORECAST_TOKENS, case.length)) for kind in LAYER_KINDS)
    # they have run before, too, when they are timed
    seconds += sum(model.time(part).seconds for part in PARTS if part not in LAYER_KINDS)
    budget.require(seconds)
    say(f"training of {case.shape.name} at {case.length:,} tokens", seconds)
    part_times, busy = alternating_rounds(PARTS, model.time, within(budget, fewest=1))
    records, rounds = part_records(case, precision, part_times)
    return _of_rounds(records + composed_records(case, precision, rounds, None), model.kernels, busy)


# ---------------------------------------------------------------- records
def records_of(
    case: TrainingCase,
    dtype: str,
    seconds: StackTimes,
    peak_bytes: Mapping[Stack, int | None],
    peak_flops: float | None,
) -> list[TrainingSpeedRecord]:
    """All records of a case: of the slices as measured, and what is composed of them.

    Args:
        case: the whole model and the row.
        dtype: of weights and activations in the layers.
        seconds: of each slice; the first is full attention.
        peak_bytes: of each slice.
        peak_flops: of the device per second, or None where it is not known.
    """
    parts = parts_by_round(seconds)
    slice_records = [
        case.record(SLICE, dtype, stack, **columns, peak_bytes=peak_bytes[stack])
        for stack, columns in _compared(case, seconds, peak_flops, parts).items()
    ]
    return slice_records + composed_records(case, dtype, parts, peak_flops)


def composed_records(
    case: TrainingCase, dtype: str, parts: Sequence[Mapping[str, float]], peak_flops: float | None
) -> list[TrainingSpeedRecord]:
    """Those of what is composed of ``parts``, in every round: a layer of each kind, the rest, and whole models."""
    records = []
    for part in parts[0]:
        what, stack = (
            (COMPOSED_REST, Stack(FULL, 0, 0)) if part == REST else (COMPOSED_LAYER, Stack(part, 1, int(part == FULL)))
        )
        records.append(case.record(what, dtype, stack, **time_columns([each[part] for each in parts])))
    wholes = _compared(case, composed_times(whole_models(case.shape), parts), peak_flops)
    return records + [case.record(COMPOSED_MODEL, dtype, whole, **columns) for whole, columns in wholes.items()]


_WHAT_OF_PART = {
    TOKENS: (PART_LAYER, Stack(FULL, 1, 1)),
    HEAD: (PART_HEAD, Stack(FULL, 0, 0)),
    UPDATE: (PART_UPDATE, Stack(FULL, 0, 0)),
}


def part_records(
    case: TrainingCase, dtype: str, part_times: Mapping[str, Sequence[PartTime]]
) -> tuple[list[TrainingSpeedRecord], list[dict[str, float]]]:
    """The records of the parts that were timed, and in every round the seconds of layers that follow from them."""
    records = []
    for name, times in part_times.items():
        what, stack = _WHAT_OF_PART.get(name, (PART_ATTENTION, Stack(name, 1, int(name == FULL))))
        note = f"counted {times[0].occurrences:,g} times" if what != PART_UPDATE else None
        records.append(case.record(what, dtype, stack, **time_columns([each.seconds for each in times]), note=note))
    rounds = [dict(zip(part_times, each, strict=True)) for each in zip(*part_times.values(), strict=True)]
    return records, [seconds_of_parts(each, case.shape) for each in rounds]


def _compared(
    case: TrainingCase, seconds: StackTimes, peak_flops: float | None, parts: Sequence[Mapping[str, float]] = ()
) -> dict[Stack, Columns]:
    """Times, operations, their share of the peak, and speed-ups over full attention."""
    all_columns = comparison_columns(seconds, "flops", case.flops, parts)
    for columns in all_columns.values():
        if "flops" in columns and peak_flops is not None:
            columns["mfu"] = columns["flops"] / columns["seconds"] / peak_flops
    return all_columns


# ---------------------------------------------------------------- the table
def _cells(record: TrainingSpeedRecord) -> tuple[str, ...]:
    return (
        *(record.what, record.shape, f"{record.length:,}"),
        *(str(record.num_layers), str(record.full_layers), str(record.pattern)),
        *timed_cells(record, ",.1f"),
        number(record.ideal_speedup, ".3f"),
        number(record.mfu, ".1%"),
        number(record.peak_bytes and record.peak_bytes / 2**30, ".1f"),
    )


def _subject(record: TrainingSpeedRecord) -> str:
    return f"training of {record.shape} at {record.length:,} tokens"
