"""What the cases of stage ``inference-speed`` measure: the fastest prefill, what fits, and the rounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from longgen.attention import full_attention, sparse_attention
from longgen.attention.decode import choose_decode_backend
from longgen.foreign import first_line
from longgen.gpus import GIB
from longgen.profiling.device import Precision, free_main_memory, free_memory, product_flops, time_run, why_not
from longgen.profiling.fastest import PrefillConfig, chunk_on, fastest_decode_kernel, fastest_prefill_configs, heads_of
from longgen.profiling.inference_model import InferenceStack, InferenceTiming, storage_bytes
from longgen.profiling.inference_records import (
    DECODE,
    PREFILL,
    WHOLE,
    InferenceCase,
    predicted_bytes,
    records_of,
    unsupported_records,
)
from longgen.profiling.rounds import FEWEST_ROUNDS, SECONDS_TO_START, alternating_rounds, predicted_seconds, within
from longgen.profiling.session import Budget, Columns
from longgen.profiling.stacks import (
    FEWEST_LAYERS,
    OUT_OF_MEMORY,
    Stack,
    TooLargeError,
    is_large_for,
    is_trial,
    measure_most_layers,
    precision_of,
    slices,
    whole_models,
)
from longgen.profiling.workloads import FULL, PATTERNS
from longgen.progress import say
from longgen.records.kernels import InferenceSpeedRecord
from longgen.records.speed import KV_CACHE, LONGEST_CONTEXT
from longgen.shapes import ModelShape
from longgen.training.parallel.processes import Processes
from longgen.training.preflight import available_memory

# Tokens in whose multiples the longest context is told, and beyond which no more is tried.
STEP, MOST_TOKENS = 4096, 2**20
TINY_STEP, TINY_MOST_TOKENS = 64, 1024
WARM_UP_TOKENS = 512  # of each of two chunks, where the real ones would take minutes

# Forecasts on a CPU. The piece of attention whose rate is taken for that of whole prompts: the last queries of so many
# tokens. And the share of a matrix product's rate that a layer reaches besides attention, normalisation included.
QUERIES, KEYS = 2048, 8192
LAYER_EFFICIENCY = 0.5


def measure_slices(case: InferenceCase, device: str, budget: Budget, most_layers: int) -> list[InferenceSpeedRecord]:
    """Time slices of as many layers as fit.

    Raises:
        ValueError: nothing of it fits.
        NoTimeError: it would not end within ``budget``.
    """

    def measure(num_layers: int, notes: list[str]) -> list[InferenceSpeedRecord]:
        stacks = slices(num_layers)
        if reason := _why_too_large(case, stacks[0], device):
            raise TooLargeError(reason)
        needed = _seconds_needed(case, stacks, device)
        budget.require(needed, notes)
        say(f"inference of {case.shape.name} at {case.tokens:,} tokens", needed)
        return time_stacks(case, stacks, device, budget)

    return measure_most_layers(range(most_layers, FEWEST_LAYERS - 1, -1), measure, device)


def measure_whole(case: InferenceCase, device: str, budget: Budget) -> list[InferenceSpeedRecord]:
    """Time whole models, those that fit. Raises NoTimeError if it would not end within ``budget``."""
    stacks = whole_models(case.shape)
    reasons = {stack: _why_too_large(case, stack, device) for stack in stacks}
    fitting = [stack for stack, reason in reasons.items() if reason is None]
    records = [
        record
        for stack, reason in reasons.items()
        if reason is not None
        for record in unsupported_records(case, precision_of(device, case.shape), stack, reason)
    ]
    while fitting:
        budget.require(_seconds_needed(case, fitting, device))
        try:
            return records + time_stacks(case, fitting, device, budget)
        except torch.OutOfMemoryError:  # between two measurements: without the stack that needs most there is more room
            records += unsupported_records(case, precision_of(device, case.shape), fitting.pop(0), OUT_OF_MEMORY)
        free_memory(device)  # only now: the exception held the model
    return records


def bytes_at_hand(device: str) -> tuple[int, str]:
    """Bytes that a model may use, and of what memory."""
    if device == "cpu":  # it kills a process that takes more, instead of refusing
        return free_main_memory(), "main memory that is free"
    free_memory(device)
    return available_memory(Processes(device=torch.device(device)))


def time_stacks(
    case: InferenceCase, stacks: Sequence[Stack], device: str, budget: Budget
) -> list[InferenceSpeedRecord]:
    """Time prefill and decoding of ``stacks``, the first of which has the most layers.

    Stacks of a whole model that run out of memory are left out, with records that say so; slices belong together.

    Raises:
        torch.OutOfMemoryError: a slice ran out of memory, or every stack did.
    """
    length, large = case.tokens, is_large_for(device, case.shape)
    precision = precision_of(device, case.shape)
    dtype = getattr(torch, precision)
    configs = fastest_prefill_configs(
        case.shape, length, _chunks(case, stacks, device, dtype), device, dtype, case.batch
    )
    kernel = fastest_decode_kernel(case.shape, length, device, dtype, case.batch)
    free_memory(device)
    model = InferenceStack(case.shape, stacks[0].num_layers, device, dtype, case.batch)
    # of main memory it is not tried whether it suffices: that may end the process
    config, fitting = (configs[0], list(stacks)) if large else _config_that_fits(model, stacks, length, configs, kernel)
    if not fitting or (case.how != WHOLE and len(fitting) < len(stacks)):
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)
    too_large = [stack for stack in stacks if stack not in fitting]
    records = [record for stack in too_large for record in unsupported_records(case, precision, stack, OUT_OF_MEMORY)]

    first = PrefillConfig(config.kernel, WARM_UP_TOKENS) if large else config
    for stack in fitting:  # compiles: of a prompt in chunks the first one knows no pruned cache, the others do
        model.prefill(stack, min(length, 2 * first.chunk), first)
    fewest = 1 if large else FEWEST_ROUNDS
    prefills, busy = alternating_rounds(
        fitting, lambda stack: model.prefill(stack, length, config), within(budget, fewest)
    )
    columns = {"chunk": config.chunk, "full_kernel": config.kernel, "sparse_kernel": model.sparse_kernel, **busy}
    read = records_of(case, PREFILL, precision, dtype.itemsize, prefills)
    records += [replace(record, **columns) for record in read]

    free_memory(device)
    capture, note = _capture(model, fitting, length, kernel)
    decodes, busy = alternating_rounds(
        fitting, lambda stack: model.decode(stack, length, kernel, capture), within(budget)
    )
    sparse_kernel = _sparse_decode_kernel(case.shape, device, dtype)
    columns = {"full_kernel": kernel, "sparse_kernel": sparse_kernel, "note": note, **busy}
    decoded = records_of(case, DECODE, precision, dtype.itemsize, decodes)
    return records + [replace(record, **columns) for record in decoded]


def fill(case: InferenceCase, device: str) -> list[InferenceSpeedRecord]:
    """The longest context of whole models, full and with the paper's -62 % of KV cache, that memory takes."""
    full, *hybrids = whole_models(case.shape)
    most_full = max(stack.full_layers for stack in hybrids)
    stacks = [full, *(stack for stack in hybrids if stack.full_layers == most_full)]
    precision, (available, what) = precision_of(device, case.shape), bytes_at_hand(device)
    dtype = getattr(torch, precision)
    step, most = (TINY_STEP, TINY_MOST_TOKENS) if is_trial(device, case.shape) else (STEP, MOST_TOKENS)
    # what is predicted is the least that it takes: more than that need not be tried
    chunk = chunk_on(device, case.shape, case.batch)

    def fits_by_plan(steps: int, stack: Stack) -> bool:
        return predicted_bytes(case.shape, stack, steps * step, chunk, dtype.itemsize, case.batch) <= available

    bounds = {stack: largest(functools.partial(fits_by_plan, stack=stack), most // step) for stack in stacks}
    if not any(bounds.values()):
        raise ValueError(f"no model is predicted to fit in {available / GIB:.1f} GiB of {what}")
    # chosen where full attention is near its own bound, and its inputs leave room
    length = max(step, bounds[stacks[0]] * step)
    kernel = fastest_decode_kernel(case.shape, length, device, dtype, case.batch)
    config = fastest_prefill_configs(case.shape, length, [chunk], device, dtype, case.batch)[0]
    free_memory(device)
    model = InferenceStack(case.shape, stacks[0].num_layers, device, dtype, case.batch)
    records = []
    for stack, bound in bounds.items():
        timings: dict[int, InferenceTiming] = {}

        def fits(steps: int, stack: Stack = stack, timings: dict[int, InferenceTiming] = timings) -> bool:
            timing = model.attempt(stack, steps * step, config, kernel)
            free_memory(device)
            if timing is not None:
                timings[steps] = timing
            return timing is not None

        longest = largest(fits, bound)
        note = f"no more than {most:,} tokens were tried" if longest * step == most else None
        columns: Columns = {"chunk": config.chunk, "full_kernel": config.kernel, "note": note}
        if longest:
            columns |= {"peak_bytes": timings[longest].timing.peak_bytes, "kv_bytes": timings[longest].kv_bytes}
        records.append(replace(case, length=longest * step).record(LONGEST_CONTEXT, precision, stack, **columns))
    return records


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number of 1..``most`` that fits, if all smaller ones do; 0 if there is none.

    Sought from ``most`` down in steps that double, as it is mostly near; then by bisection.
    """
    low, high = most, most + 1  # high does not fit
    while low > 0 and not fits(low):
        low, high = low - 2 * (high - low), low
    low = max(0, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def count_caches(case: InferenceCase, device: str) -> list[InferenceSpeedRecord]:
    """The bytes of the caches of whole models, a layer at a time. Raises ValueError if that of one does not fit."""
    precision = precision_of(device, case.shape)
    dtype = getattr(torch, precision)
    layer = Stack(FULL, 1, 1).model(case.shape).kv_cache_bytes(case.tokens, dtype.itemsize, case.batch)
    if reason := why_not(layer, *bytes_at_hand(device)):
        raise ValueError(f"the cache of one layer: {reason}")
    records = []
    for stack in whole_models(case.shape):
        size = storage_bytes(case.shape, stack, case.tokens, case.batch, device, dtype)
        records.append(case.record(KV_CACHE, precision, stack, kv_bytes=size))
    return records


def _chunks(case: InferenceCase, stacks: Sequence[Stack], device: str, dtype: torch.dtype) -> list[int]:
    """Sizes of chunks: some kernels serve whole prompts alone, where these fit in memory."""
    length, (available, _), chunk = case.tokens, bytes_at_hand(device), chunk_on(device, case.shape, case.batch)
    if is_large_for(device, case.shape):
        return [min(chunk, length)]  # there is one kernel, and it serves chunks
    at_once = max(predicted_bytes(case.shape, stack, length, length, dtype.itemsize, case.batch) for stack in stacks)
    return [chunk, length] if length > chunk and at_once <= available else [chunk]


def _config_that_fits(
    model: InferenceStack, stacks: Sequence[Stack], length: int, configs: Sequence[PrefillConfig], kernel: str
) -> tuple[PrefillConfig, list[Stack]]:
    """The fastest prefill in which all stacks fit; if there is none, the most frugal, and those that do."""
    for config in configs:
        fitting = []
        for stack in stacks:
            if model.attempt(stack, length, config, kernel) is not None:
                fitting.append(stack)
            free_memory(model.device)
        if len(fitting) == len(stacks) or config.chunk == chunk_on(model.device, model.shape, model.batch):
            return config, fitting
    raise AssertionError("one config is by chunks")


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


# ---------------------------------------------------------------- what is predicted, before anything is begun
def _why_too_large(case: InferenceCase, stack: Stack, device: str) -> str | None:
    size, chunk = getattr(torch, precision_of(device, case.shape)).itemsize, chunk_on(device, case.shape, case.batch)
    needed = predicted_bytes(case.shape, stack, case.tokens, min(chunk, case.tokens), size, case.batch)
    return why_not(needed, *bytes_at_hand(device))


def _seconds_needed(case: InferenceCase, stacks: list[Stack], device: str) -> float:
    """What the fewest rounds are predicted to take, by the operations of prefill."""
    if is_large_for(device, case.shape):
        precision = precision_of(device, case.shape)
        each = (prefill_seconds(case.shape, stack, case.tokens, case.batch, precision) for stack in stacks)
        return SECONDS_TO_START + sum(each)
    flops = (stack.model(case.shape).prefill_flops(case.tokens, case.batch) for stack in stacks)
    return predicted_seconds(sum(flops), device)


def prefill_seconds(shape: ModelShape, stack: Stack, length: int, batch: int, precision: Precision) -> float:
    """Predicted seconds in which a CPU reads prompts of ``length`` tokens with ``stack``."""
    if not stack.num_layers:
        return 0.0
    flops = {kind: count * batch * layer_flops(shape, kind, length) for kind, count in stack.layers.items() if count}
    everything = stack.model(shape).prefill_flops(length, batch)
    rest = (everything - sum(flops.values())) / (LAYER_EFFICIENCY * product_flops("cpu", precision))
    return rest + sum(work / attention_rate(shape, kind, precision) for kind, work in flops.items())


def layer_flops(shape: ModelShape, kind: str, length: int) -> int:
    """Floating-point operations of the attention of a layer, ``full`` or of a pattern, over ``length`` tokens."""
    return Stack(kind, 1, int(kind == FULL)).model(shape).attention_flops(length)


@functools.cache
def attention_rate(shape: ModelShape, kind: str, precision: Precision) -> float:
    """Floating-point operations per second of a forward pass of a layer's attention, at best of two."""
    dtype = getattr(torch, precision)
    query = torch.randn(1, shape.num_heads, QUERIES, shape.head_dim, dtype=dtype)
    key, value = torch.randn(2, 1, shape.num_kv_heads, KEYS, shape.head_dim, dtype=dtype)

    @torch.no_grad()
    def run() -> None:
        if kind == FULL:
            full_attention(query, key, value)
        else:
            sparse_attention(query, key, value, PATTERNS[kind], query_offset=KEYS - QUERIES)

    seconds = min(time_run(run, "cpu").seconds for _ in range(2))
    return (layer_flops(shape, kind, KEYS) - layer_flops(shape, kind, KEYS - QUERIES)) / seconds
