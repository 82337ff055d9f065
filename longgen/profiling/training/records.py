"""The records of kind ``training-speed``: slices as measured, and what is composed of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from longgen.profiling.attention.workloads import FULL
from longgen.profiling.compose import REST, composed_seconds, parts_of
from longgen.profiling.rounds import speedup_columns, time_columns
from longgen.profiling.stacks import Stack, whole_models
from longgen.profiling.training.cases import step_flops
from longgen.profiling.training.words import COMPOSED_LAYER, COMPOSED_MODEL, COMPOSED_REST, SLICE
from longgen.shapes import ModelShape

Record = dict[str, Any]

# Columns of what was found; all are null where nothing was.
FOUND = (
    *("full_kernel", "sparse_kernel", "flops", "n", "seconds", "seconds_low", "seconds_high"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup", "fraction_of_ideal", "mfu", "fit_error"),
    *("peak_bytes", "note"),
)


def describe(shape: ModelShape, length: int, dtype: str, what: str = SLICE, stack: Stack | None = None) -> Record:
    """What identifies a record, with nothing found yet."""
    return {
        "what": what,
        "shape": shape.name,
        "length": length,
        **(asdict(stack) if stack else dict.fromkeys(("num_layers", "full_layers", "pattern"))),
        "dtype": dtype,
        **dict.fromkeys(FOUND),
    }


def records_of(
    shape: ModelShape,
    length: int,
    dtype: str,
    seconds: Mapping[Stack, Sequence[float]],
    peak_bytes: Mapping[Stack, int | None],
    peak_flops: float | None,
) -> list[Record]:
    """All records of one shape and length.

    Whatever is composed is so within every round, of what was measured in it; so are ratios. Then medians are taken,
    with 95 % bootstrap intervals.

    Args:
        shape: of the whole model.
        length: tokens of a row.
        dtype: of weights and activations in the layers.
        seconds: of each slice in every round; the first slice is full attention.
        peak_bytes: of each slice.
        peak_flops: of the device per second, or None where it is not known.
    """
    stacks = list(seconds)
    parts = [parts_of(dict(zip(stacks, times, strict=True))) for times in zip(*seconds.values(), strict=True)]

    def record(what: str, stack: Stack, times: Sequence[float], full: Stack, full_times: Sequence[float]) -> Record:
        flops = step_flops(stack, shape, length)
        found = describe(shape, length, dtype, what, stack) | {"flops": flops} | time_columns(times)
        found["mfu"] = None if peak_flops is None else flops / found["seconds"] / peak_flops
        if full.num_layers != stack.num_layers:
            return found
        return found | speedup_columns(full_times, times, step_flops(full, shape, length) / flops)

    records = []
    for stack, times in seconds.items():
        fits = [composed_seconds(each, stack) / time - 1 for each, time in zip(parts, times, strict=True)]
        measured = record(SLICE, stack, times, stacks[0], seconds[stacks[0]])
        records.append(measured | {"fit_error": statistics.median(fits), "peak_bytes": peak_bytes[stack]})
    for part in parts[0]:
        times = [each[part] for each in parts]
        if part == REST:
            records.append(describe(shape, length, dtype, COMPOSED_REST, Stack(FULL, 0, 0)) | time_columns(times))
        else:
            layer = Stack(part, 1, int(part == FULL))
            records.append(describe(shape, length, dtype, COMPOSED_LAYER, layer) | time_columns(times))
    wholes = whole_models(shape)
    composed = {whole: [composed_seconds(each, whole) for each in parts] for whole in wholes}
    for whole, times in composed.items():
        records.append(record(COMPOSED_MODEL, whole, times, wholes[0], composed[wholes[0]]))
    return records
