"""Cases on the device: which way full attention is fastest, what fits, and the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from longgen.attention.decode import choose_decode_backend
from longgen.foreign import first_line
from longgen.planner.gpus import GIB
from longgen.profiling.attention.session import Budget
from longgen.profiling.busy import Watch
from longgen.profiling.device import free_main_memory, free_memory, precision_on
from longgen.profiling.inference.cases import DECODE, PREFILL, WHOLE, Case
from longgen.profiling.inference.memory import OUT_OF_MEMORY, largest, predicted_bytes
from longgen.profiling.inference.model import Filled, InferenceStack, storage_bytes
from longgen.profiling.inference.records import Record, cache_record, longest_record, records_of, refused
from longgen.profiling.inference.ways import Way, chunk_on, fastest_decode_kernel, heads_of, ways_to_prefill
from longgen.profiling.rounds import FEWEST_ROUNDS, alternating_rounds
from longgen.profiling.stacks import Stack, is_large_for, is_trial
from longgen.shapes import ModelShape
from longgen.training.parallel.processes import Processes
from longgen.training.preflight import available_memory

# Tokens in whose multiples the longest context is told, and beyond which no more is tried.
STEP, MOST_TOKENS = 4096, 2**20
TINY_STEP, TINY_MOST_TOKENS = 64, 1024
WARM_UP_TOKENS = 512  # of each of two chunks, where the real ones would take minutes


def bytes_at_hand(device: str) -> tuple[int, str]:
    """Bytes that a model may use, and of what memory."""
    if device == "cpu":  # it kills a process that takes more, instead of refusing
        return free_main_memory(), "main memory that is free"
    free_memory(device)
    return available_memory(Processes(device=torch.device(device)))


def time_stacks(case: Case, stacks: Sequence[Stack], device: str, budget: Budget) -> list[Record]:
    """Time prefill and decoding of ``stacks``, the first of which has the most layers.

    Stacks of a whole model that run out of memory are left out, with records that say so; slices belong together.

    Raises:
        torch.OutOfMemoryError: a slice ran out of memory, or every stack did.
    """
    assert case.length is not None
    length, large = case.length, is_large_for(device, case.shape)
    precision = precision_on(device, is_trial(device, case.shape))
    dtype = getattr(torch, precision)
    ways = ways_to_prefill(case.shape, length, _chunks(case, stacks, device, dtype), device, dtype, case.batch)
    kernel = fastest_decode_kernel(case.shape, length, device, dtype, case.batch)
    free_memory(device)
    model = InferenceStack(case.shape, stacks[0].num_layers, device, dtype, case.batch)
    # of main memory it is not tried whether it suffices: that may end the process
    way, fitting = (ways[0], list(stacks)) if large else _way_that_fits(model, stacks, length, ways, kernel)
    if not fitting or (case.how != WHOLE and len(fitting) < len(stacks)):
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)
    lost = [stack for stack in stacks if stack not in fitting]
    records = [record for stack in lost for record in refused(case, precision, stack, OUT_OF_MEMORY)]

    first = Way(way.kernel, WARM_UP_TOKENS) if large else way
    for stack in fitting:  # compiles: of a prompt in chunks the first one knows no pruned cache, the others do
        model.prefill(stack, min(length, 2 * first.chunk), first)
    fewest = 1 if large else FEWEST_ROUNDS
    with Watch() as watch:
        prefills = alternating_rounds(fitting, lambda stack: model.prefill(stack, length, way), budget, fewest)
    used = {"chunk": way.chunk, "full_kernel": way.kernel, "sparse_kernel": model.sparse_kernel}
    used |= watch.columns()
    records += [one | used for one in records_of(case, PREFILL, precision, dtype.itemsize, prefills)]

    free_memory(device)
    capture, note = _capture(model, fitting, length, kernel)
    with Watch() as watch:
        decodes = alternating_rounds(fitting, lambda stack: model.decode(stack, length, kernel, capture), budget)
    used = {"full_kernel": kernel, "sparse_kernel": _sparse_decode_kernel(case.shape, device, dtype), "note": note}
    used |= watch.columns()
    return records + [one | used for one in records_of(case, DECODE, precision, dtype.itemsize, decodes)]


def fill(case: Case, stacks: Sequence[Stack], device: str) -> list[Record]:
    """The longest context of each of ``stacks``, whole models, that the memory of the device takes."""
    precision, (available, what) = precision_on(device, is_trial(device, case.shape)), bytes_at_hand(device)
    dtype = getattr(torch, precision)
    step, most = (TINY_STEP, TINY_MOST_TOKENS) if is_trial(device, case.shape) else (STEP, MOST_TOKENS)
    # what is predicted is the least that it takes: more than that need not be tried
    bounds = {
        stack: largest(partial(_fits_by_plan, case, stack, step, device, available), most // step) for stack in stacks
    }
    if not any(bounds.values()):
        raise ValueError(f"no model is predicted to fit in {available / GIB:.1f} GiB of {what}")
    # chosen where full attention is near its own bound, and its inputs leave room
    length = max(step, bounds[stacks[0]] * step)
    kernel = fastest_decode_kernel(case.shape, length, device, dtype, case.batch)
    way = ways_to_prefill(case.shape, length, [chunk_on(device, case.shape, case.batch)], device, dtype, case.batch)[0]
    free_memory(device)
    model = InferenceStack(case.shape, stacks[0].num_layers, device, dtype, case.batch)
    records = []
    for stack, bound in bounds.items():
        done: dict[int, Filled] = {}

        def fits(steps: int, stack: Stack = stack, done: dict[int, Filled] = done) -> bool:
            found = model.attempt(stack, steps * step, way, kernel)
            free_memory(device)
            if found is not None:
                done[steps] = found
            return found is not None

        longest = largest(fits, bound)
        note = f"no more than {most:,} tokens were tried" if longest * step == most else None
        records.append(longest_record(case, precision, stack, longest * step, way, done.get(longest), note))
    return records


def count_caches(case: Case, stacks: Sequence[Stack], device: str) -> list[Record]:
    """The bytes of the caches of ``stacks``, whole models, a layer at a time."""
    assert case.length is not None
    precision = precision_on(device, is_trial(device, case.shape))
    dtype = getattr(torch, precision)
    return [
        cache_record(case, precision, stack, storage_bytes(case.shape, stack, case.length, case.batch, device, dtype))
        for stack in stacks
    ]


def _fits_by_plan(case: Case, stack: Stack, step: int, device: str, available: int, steps: int) -> bool:
    chunk = chunk_on(device, case.shape, case.batch)
    size = getattr(torch, precision_on(device, is_trial(device, case.shape))).itemsize
    return predicted_bytes(case.shape, stack, steps * step, chunk, size, case.batch) <= available


def _chunks(case: Case, stacks: Sequence[Stack], device: str, dtype: torch.dtype) -> list[int]:
    """Sizes of chunks: some kernels serve whole prompts alone, where these fit in memory."""
    assert case.length is not None
    (available, _), chunk = bytes_at_hand(device), chunk_on(device, case.shape, case.batch)
    if is_large_for(device, case.shape):
        return [min(chunk, case.length)]  # there is one kernel, and it serves chunks
    at_once = max(
        predicted_bytes(case.shape, stack, case.length, case.length, dtype.itemsize, case.batch) for stack in stacks
    )
    return [chunk, case.length] if case.length > chunk and at_once <= available else [chunk]


def _way_that_fits(
    model: InferenceStack, stacks: Sequence[Stack], length: int, ways: Sequence[Way], kernel: str
) -> tuple[Way, list[Stack]]:
    """The fastest way of reading in which all stacks fit; if there is none, the most frugal, and those that do."""
    for way in ways:
        fitting = []
        for stack in stacks:
            if model.attempt(stack, length, way, kernel) is not None:
                fitting.append(stack)
            free_memory(model.device)
        if len(fitting) == len(stacks) or way.chunk == chunk_on(model.device, model.shape, model.batch):
            return way, fitting
    raise AssertionError("one way is by chunks")


def _capture(model: InferenceStack, stacks: Sequence[Stack], length: int, kernel: str) -> tuple[bool, str | None]:
    """Whether steps of all stacks can be captured as CUDA graphs, and a note if they cannot; compiles what they run."""
    if model.device == "cpu":
        return False, None
    try:
        for stack in stacks:
            model.decode(stack, length, kernel, capture=True)
            free_memory(model.device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return False, f"without a CUDA graph: {first_line(error)}"
    return True, None


def _sparse_decode_kernel(shape: ModelShape, device: str, dtype: torch.dtype) -> str:
    with torch.no_grad():
        return choose_decode_backend(*heads_of(shape, device, dtype))
