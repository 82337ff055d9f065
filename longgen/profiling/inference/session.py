"""A measuring session of inference: what is done, what fits in memory and time; results are on disk at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from longgen.profiling.attention.session import (
    NOT_MEASURED,
    UNSUPPORTED,
    Budget,
    ResultFile,
    attempt,
    is_done,
    no_time_for,
)
from longgen.profiling.attention.workloads import FULL, PATTERNS
from longgen.profiling.device import Precision, free_memory, least_flops, precision_on
from longgen.profiling.inference.cases import CACHE, FILLED, PREFILL, SLICES, WHOLE, Case, cost
from longgen.profiling.inference.memory import OUT_OF_MEMORY, predicted_bytes, why_not
from longgen.profiling.inference.records import Record, nothing_of, refused
from longgen.profiling.inference.ways import chunk_on
from longgen.profiling.inference.words import LONGEST, MODEL_PREFILL
from longgen.profiling.rounds import FEWEST_ROUNDS
from longgen.profiling.stacks import (
    FEWEST_LAYERS,
    MOST_LAYERS,
    Stack,
    is_large_for,
    is_trial,
    slices,
    whole_models,
)
from longgen.progress import progress_bar, say
from longgen.provenance import provenance
from longgen.results import Result

KIND = "inference-speed"
KEY = ("what", "composed", "shape", "length", "batch", "num_layers", "full_layers", "pattern")

# For the time budget: until the first round; and where memory is filled.
SECONDS_TO_START, SECONDS_TO_FILL = 30.0, 60.0


def open_inference_file(folder: Path, name: str, device: str, trial: bool) -> ResultFile:
    """The results file of run ``name`` below ``folder``, with what an earlier session of the same code left in it.

    Of a ``trial`` of the code, at tiny sizes on a CPU, and of true shapes it is not the same file.

    Raises:
        ArtifactError: as `ResultFile.open`.
    """
    settings = {
        "dtype": precision_on(device, trial),
        "tiny": trial,
        "patterns": {pattern: sizes.to_dict() for pattern, sizes in PATTERNS.items()},
    }
    result = Result(KIND, name, [], provenance(settings, seed=0, device=device), settings=settings)
    return ResultFile.open(folder / name / "kernels" / f"{KIND}.json", result, KEY)


def profile_inference(
    file: ResultFile, cases: Iterable[Case], device: str, budget: Budget, most_layers: int = MOST_LAYERS
) -> None:
    """Time prefill and decoding, and find how long a context fits.

    Args:
        file: where the records go; what it holds already is not measured again.
        cases: what to do, in this order.
        device: ``cpu`` or ``cuda``.
        budget: of the session.
        most_layers: of a slice; fewer where so many do not fit in memory.
    """
    cases = list(cases)
    with progress_bar(len(cases), "inference", "case") as bar:
        for asked in cases:
            case = _with_length(asked, file.result.records)
            if case is not None and not _is_done(case, file.result.records):
                measure = partial(_MEASURE[case.how], case, device, budget, most_layers)
                filling = case.how in (FILLED, CACHE) and not is_trial(device, case.shape)
                outcome = attempt(measure, (), budget, SECONDS_TO_FILL if filling else SECONDS_TO_START)
                records = outcome.pop("records", [nothing_of(case, _precision(case, device))])
                for identity in case.identities:
                    file.drop(identity, tuple(identity))
                for record in records:
                    file.put(outcome | record)
                free_memory(device)
            bar.update()


def _with_length(case: Case, records: list[Record]) -> Case | None:
    """The case with its length: where full attention does not fit, the longest at which it does; None without need."""
    if case.how == FILLED or case.length is not None:
        return case
    full = [
        record
        for record in records
        if (record["shape"], record["batch"], record["pattern"]) == (case.shape.name, case.batch, FULL)
        and not record["composed"]
    ]
    longest = max((record["length"] or 0 for record in full if record["what"] == LONGEST), default=0)
    too_long = any(
        record["what"] == MODEL_PREFILL and record["status"] == UNSUPPORTED and record["length"] > longest
        for record in full
    )
    return replace(case, length=longest) if longest and too_long else None


def _is_done(case: Case, records: list[Record]) -> bool:
    found = [
        record
        for record in records
        if any(all(record[name] == value for name, value in identity.items()) for identity in case.identities)
    ]
    return bool(found) and all(is_done(record) for record in found)


def _measure_slices(case: Case, device: str, budget: Budget, most_layers: int) -> Record:
    """``records`` of one case; another status if there is no time. Raises ValueError if nothing of it fits."""
    from longgen.profiling.inference.measure import time_stacks

    notes: list[str] = []
    for num_layers in range(most_layers, FEWEST_LAYERS - 1, -1):
        stacks = slices(num_layers)
        reason = _why_too_large(case, stacks[0], device)
        if reason is None:
            needed = _seconds_needed(case, stacks, device)
            if budget.left() < needed:
                return {"status": NOT_MEASURED, "reason": "; ".join([*notes, no_time_for(needed)])}
            say(f"inference of {case.shape.name} at {case.length:,} tokens", needed)
            try:
                records = time_stacks(case, stacks, device, budget)
                return {"records": [_noted(record, notes) for record in records]}
            except torch.OutOfMemoryError:
                reason = OUT_OF_MEMORY
            free_memory(device)  # only now: the exception held the model
        notes.append(f"{num_layers} layers: {reason}")
    raise ValueError("; ".join(notes))


def _measure_whole(case: Case, device: str, budget: Budget, most_layers: int) -> Record:
    from longgen.profiling.inference.measure import time_stacks

    stacks = whole_models(case.shape)
    reasons = {stack: _why_too_large(case, stack, device) for stack in stacks}
    fitting = [stack for stack, reason in reasons.items() if reason is None]
    found = [
        record
        for stack, reason in reasons.items()
        if reason is not None
        for record in refused(case, _precision(case, device), stack, reason)
    ]
    while fitting:
        needed = _seconds_needed(case, fitting, device)
        if budget.left() < needed:
            return {"status": NOT_MEASURED, "reason": no_time_for(needed)}
        try:
            return {"records": found + time_stacks(case, fitting, device, budget)}
        except torch.OutOfMemoryError:  # between two measurements: without the stack that needs most there is more room
            found += refused(case, _precision(case, device), fitting.pop(0), OUT_OF_MEMORY)
        free_memory(device)  # only now: the exception held the model
    return {"records": found}


def _measure_filled(case: Case, device: str, budget: Budget, most_layers: int) -> Record:
    from longgen.profiling.inference.measure import fill

    full, *hybrids = whole_models(case.shape)
    most = max(stack.full_layers for stack in hybrids)  # the paper's -62 % of KV cache
    return {"records": fill(case, [full, *(stack for stack in hybrids if stack.full_layers == most)], device)}


def _measure_cache(case: Case, device: str, budget: Budget, most_layers: int) -> Record:
    """Bytes of every layer's cache; raises ValueError if that of one layer does not fit."""
    from longgen.profiling.inference.measure import bytes_at_hand, count_caches

    assert case.length is not None
    stacks, size = whole_models(case.shape), _bytes_per_value(case, device)
    layer = Stack(FULL, 1, 1).model(case.shape).kv_cache_bytes(case.length, size, case.batch)
    if reason := why_not(layer, *bytes_at_hand(device)):
        raise ValueError(f"the cache of one layer: {reason}")
    return {"records": count_caches(case, stacks, device)}


_MEASURE = {SLICES: _measure_slices, WHOLE: _measure_whole, FILLED: _measure_filled, CACHE: _measure_cache}


def _why_too_large(case: Case, stack: Stack, device: str) -> str | None:
    from longgen.profiling.inference.measure import bytes_at_hand

    assert case.length is not None
    size, chunk = _bytes_per_value(case, device), min(chunk_on(device, case.shape, case.batch), case.length)
    needed = predicted_bytes(case.shape, stack, case.length, chunk, size, case.batch)
    return why_not(needed, *bytes_at_hand(device))


def _seconds_needed(case: Case, stacks: list[Stack], device: str) -> float:
    """What the fewest rounds are predicted to take, by the operations of prefill."""
    if is_large_for(device, case.shape):
        from longgen.profiling.forecast import prefill_seconds

        assert case.length is not None
        length, precision = case.length, _precision(case, device)
        each = (prefill_seconds(case.shape, stack, length, case.batch, precision) for stack in stacks)
        return SECONDS_TO_START + sum(each)
    flops = sum(cost(PREFILL, stack, case, _bytes_per_value(case, device)) for stack in stacks)
    return SECONDS_TO_START + (1 + FEWEST_ROUNDS) * flops / least_flops(device)


def _precision(case: Case, device: str) -> Precision:
    return precision_on(device, is_trial(device, case.shape))


def _bytes_per_value(case: Case, device: str) -> int:
    return int(getattr(torch, _precision(case, device)).itemsize)


def _noted(record: Record, notes: list[str]) -> Record:
    return record | {"note": "; ".join([*notes, *([record["note"]] if record["note"] else [])]) or None}
