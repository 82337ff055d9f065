"""The records of kind ``inference-speed``: what was measured, and what is composed of slices."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from longgen.profiling.attention.session import UNSUPPORTED
from longgen.profiling.attention.workloads import FULL
from longgen.profiling.busy import WATCHED
from longgen.profiling.compose import composed_seconds, parts_of
from longgen.profiling.inference.cases import CACHE, PREFILL, SLICES, STAGES, WHAT, WHOLE, Case, cost
from longgen.profiling.inference.words import KV_CACHE, LONGEST
from longgen.profiling.rounds import speedup_columns, time_columns
from longgen.profiling.stacks import Stack, whole_models

if TYPE_CHECKING:
    from longgen.profiling.inference.model import Filled
    from longgen.profiling.inference.ways import Way

Record = dict[str, Any]

# Columns of what was found; all are null where nothing was.
FOUND = (
    *("chunk", "full_kernel", "sparse_kernel", "flops", "bytes", "n", "seconds", "seconds_low", "seconds_high"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup", "fraction_of_ideal", "fit_error"),
    *("peak_bytes", "kv_bytes", "note", "spread", "speedup_spread", *WATCHED),
)


def describe(what: str, case: Case, dtype: str, stack: Stack | None, composed: bool) -> Record:
    """What identifies a record, with nothing found yet."""
    return {
        "what": what,
        "composed": composed,
        "shape": case.shape.name,
        "length": case.length,
        "batch": case.batch,
        **(asdict(stack) if stack else dict.fromkeys(("num_layers", "full_layers", "pattern"))),
        "dtype": dtype,
        **dict.fromkeys(FOUND),
    }


def nothing_of(case: Case, dtype: str) -> Record:
    """The one record of a case of which nothing was found."""
    what = WHAT[case.how][PREFILL] if case.how in WHAT else KV_CACHE if case.how == CACHE else LONGEST
    return describe(what, case, dtype, None, composed=False)


def refused(case: Case, dtype: str, stack: Stack, reason: str) -> list[Record]:
    """The records of a whole model that does not fit."""
    status = {"status": UNSUPPORTED, "reason": reason}
    return [describe(WHAT[WHOLE][stage], case, dtype, stack, composed=False) | status for stage in STAGES]


def longest_record(
    case: Case, dtype: str, stack: Stack, length: int, way: Way, found: Filled | None, note: str | None
) -> Record:
    """The record of the longest context of a whole model that fits; 0 tokens if none does."""
    record = describe(LONGEST, replace(case, length=length), dtype, stack, composed=False)
    if found is not None:
        record |= {"peak_bytes": found.timed.peak_bytes, "kv_bytes": found.kv_bytes}
    return record | {"chunk": way.chunk, "full_kernel": way.kernel, "note": note}


def cache_record(case: Case, dtype: str, stack: Stack, kv_bytes: int) -> Record:
    """The record of the cache of a whole model, whose bytes were counted."""
    return describe(KV_CACHE, case, dtype, stack, composed=False) | {"kv_bytes": kv_bytes}


def records_of(
    case: Case, stage: str, dtype: str, bytes_per_value: int, taken: Mapping[Stack, Sequence[Filled]]
) -> list[Record]:
    """All records of one stage of one case.

    Whatever is composed is so within every round, of what was measured in it; so are ratios. Then medians are taken,
    with 95 % bootstrap intervals. Bytes of a cache are the sum of its layers'.

    Args:
        case: slices, or the whole model.
        stage: ``prefill`` or ``decode``.
        dtype: of weights, activations and cache.
        bytes_per_value: of it.
        taken: what each stack took in every round; there is no speed-up where full attention is not among them.
    """
    seconds = {stack: [one.timed.seconds for one in rounds] for stack, rounds in taken.items()}
    kv_bytes = {stack: rounds[-1].kv_bytes for stack, rounds in taken.items()}

    def record(what: str, stack: Stack, times: Mapping[Stack, Sequence[float]], composed: bool) -> Record:
        found = describe(what, case, dtype, stack, composed) | time_columns(times[stack])
        if not stack.num_layers:  # embeddings and LM head alone are compared with nothing
            return found
        needed = cost(stage, stack, case, bytes_per_value)
        found["flops" if stage == PREFILL else "bytes"] = needed
        full = Stack(FULL, stack.num_layers, stack.num_layers)
        if full in times:
            ideal = cost(stage, full, case, bytes_per_value) / needed
            found |= speedup_columns(times[full], times[stack], ideal)
        return found

    parts = [_parts(seconds, index) for index in range(len(next(iter(seconds.values()))))] if case.how == SLICES else []
    records = []
    for stack, rounds in taken.items():
        measured = record(WHAT[case.how][stage], stack, seconds, composed=False)
        fits = [composed_seconds(each, stack) / time - 1 for each, time in zip(parts, seconds[stack], strict=False)]
        spare = parts and len(taken) > len(parts[0])  # as many parts as slices fit these whatever they took
        measured["fit_error"] = statistics.median(fits) if spare else None
        measured |= {"peak_bytes": rounds[-1].timed.peak_bytes, "kv_bytes": kv_bytes[stack]}
        records.append(measured)
    if case.how == SLICES:
        wholes = {whole: [composed_seconds(each, whole) for each in parts] for whole in whole_models(case.shape)}
        layer = layer_bytes(kv_bytes)
        for whole in wholes:
            composed = record(WHAT[WHOLE][stage], whole, wholes, composed=True)
            records.append(composed | {"kv_bytes": sum(count * layer[kind] for kind, count in whole.layers.items())})
    return records


def layer_bytes(kv_bytes: Mapping[Stack, int]) -> dict[str, int]:
    """Bytes of the cache of one layer of every kind, from those of stacks, one of which is full attention."""
    full = next(
        size // stack.num_layers for stack, size in kv_bytes.items() if stack.pattern == FULL and stack.num_layers
    )
    found = {FULL: full}
    for stack, size in kv_bytes.items():
        if stack.pattern != FULL:
            found[stack.pattern] = (size - stack.full_layers * full) // (stack.num_layers - stack.full_layers)
    return found


def _parts(seconds: Mapping[Stack, Sequence[float]], index: int) -> dict[str, float]:
    return parts_of({stack: times[index] for stack, times in seconds.items()})
