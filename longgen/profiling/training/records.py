"""The records of kind ``training-speed``: slices as measured, and what is composed of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from longgen.profiling.attention.workloads import FULL
from longgen.profiling.busy import WATCHED
from longgen.profiling.compose import REST, composed_seconds, parts_of
from longgen.profiling.rounds import speedup_columns, time_columns
from longgen.profiling.stacks import Stack, whole_models
from longgen.profiling.training.cases import step_flops
from longgen.profiling.training.pieces import HEAD, TOKENS, UPDATE, Piece, seconds_of_parts
from longgen.profiling.training.words import (
    COMPOSED_LAYER,
    COMPOSED_MODEL,
    COMPOSED_REST,
    PART_ATTENTION,
    PART_HEAD,
    PART_LAYER,
    PART_UPDATE,
    SLICE,
)
from longgen.shapes import ModelShape

Record = dict[str, Any]

# Columns of what was found; all are null where nothing was.
FOUND = (
    *("full_kernel", "sparse_kernel", "flops", "n", "seconds", "seconds_low", "seconds_high"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup", "fraction_of_ideal", "mfu", "fit_error"),
    *("peak_bytes", "note", "spread", "speedup_spread", *WATCHED),
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
    records = []
    for stack, times in seconds.items():
        measured = describe(shape, length, dtype, SLICE, stack) | time_columns(times)
        if stack.num_layers:  # embeddings and LM head alone are compared with nothing
            full = stacks[0] if stacks[0].num_layers == stack.num_layers else None
            measured |= _compared(shape, length, stack, times, full, seconds[stacks[0]], peak_flops)
        if len(seconds) > len(parts[0]):  # as many parts as slices fit these whatever they took
            fits = [composed_seconds(each, stack) / time - 1 for each, time in zip(parts, times, strict=True)]
            measured["fit_error"] = statistics.median(fits)
        records.append(measured | {"peak_bytes": peak_bytes[stack]})
    return records + composed_records(shape, length, dtype, parts, peak_flops)


def composed_records(
    shape: ModelShape, length: int, dtype: str, parts: Sequence[Mapping[str, float]], peak_flops: float | None
) -> list[Record]:
    """The records of what is composed: a layer of each kind, the rest, and whole models.

    Args:
        shape: of the whole model.
        length: tokens of a row.
        dtype: of weights and activations in the layers.
        parts: seconds of the rest and of a layer of each kind in every round, as `parts_of` gives them.
        peak_flops: of the device per second, or None where it is not known.
    """
    records = []
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
        found = describe(shape, length, dtype, COMPOSED_MODEL, whole) | time_columns(times)
        full = wholes[0]
        records.append(found | _compared(shape, length, whole, times, full, composed[full], peak_flops))
    return records


def part_records(
    shape: ModelShape, length: int, dtype: str, pieces: Mapping[str, Sequence[Piece]]
) -> tuple[list[Record], list[dict[str, float]]]:
    """The records of the parts that were timed, and in every round the seconds of layers that follow from them."""
    records = []
    for name, taken in pieces.items():
        what, stack = _WHAT_OF_PART.get(name, (PART_ATTENTION, Stack(name, 1, int(name == FULL))))
        found = describe(shape, length, dtype, what, stack) | time_columns([piece.seconds for piece in taken])
        records.append(found | {"note": f"counted {taken[0].number:,g} times" if what != PART_UPDATE else None})
    rounds = [dict(zip(pieces, each, strict=True)) for each in zip(*pieces.values(), strict=True)]
    return records, [seconds_of_parts(each, shape) for each in rounds]


_WHAT_OF_PART = {
    TOKENS: (PART_LAYER, Stack(FULL, 1, 1)),
    HEAD: (PART_HEAD, Stack(FULL, 0, 0)),
    UPDATE: (PART_UPDATE, Stack(FULL, 0, 0)),
}


def _compared(
    shape: ModelShape,
    length: int,
    stack: Stack,
    times: Sequence[float],
    full: Stack | None,
    full_times: Sequence[float],
    peak_flops: float | None,
) -> Record:
    """Operations of a stack, their share of the peak, and its speed-up over ``full`` if there is such a stack."""
    flops = step_flops(stack, shape, length)
    mfu = None if peak_flops is None else flops / statistics.median(times) / peak_flops
    found: Record = {"flops": flops, "mfu": mfu}
    if full is None:
        return found
    return found | speedup_columns(full_times, times, step_flops(full, shape, length) / flops)
