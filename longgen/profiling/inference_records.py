"""The cases of stage ``inference-speed`` and their records: what was measured, and what is composed of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from longgen.cache_layout import GROWTH_TOKENS
from longgen.profiling.composition import comparison_columns, composed_times, parts_by_round
from longgen.profiling.stacks import Stack, whole_models
from longgen.profiling.workloads import FULL
from longgen.records.kernels import InferenceSpeedRecord
from longgen.records.schema import UNSUPPORTED
from longgen.records.speed import KV_CACHE, LONGEST_CONTEXT, MODEL_DECODE, MODEL_PREFILL, SLICE_DECODE, SLICE_PREFILL
from longgen.shapes import ModelShape

if TYPE_CHECKING:
    from longgen.profiling.inference_model import InferenceTiming

# By what is done: slices are timed and the model composed of them; the whole model is timed; or is filled until it is
# out of memory; or the bytes of its cache are counted, a layer at a time.
SLICES, WHOLE, FILLED, CACHE = "slices", "whole", "filled", "cache"

PREFILL, DECODE = "prefill", "decode"
WHAT = {
    SLICES: {PREFILL: SLICE_PREFILL, DECODE: SLICE_DECODE},
    WHOLE: {PREFILL: MODEL_PREFILL, DECODE: MODEL_DECODE},
    FILLED: {FILLED: LONGEST_CONTEXT},
    CACHE: {CACHE: KV_CACHE},
}
COST_COLUMNS = {PREFILL: "flops", DECODE: "bytes"}


@dataclass(frozen=True)
class InferenceCase:
    """One measurement of stage ``inference-speed``.

    Attributes:
        how: `SLICES`, `WHOLE`, `FILLED` or `CACHE`.
        shape: of the whole model.
        length: tokens of a sequence; None where the device decides: how many are filled, or the longest context that
            full attention was found to have room for, if the case before could not take the whole model.
        batch: sequences, all of the same length.
    """

    how: str
    shape: ModelShape
    length: int | None = None
    batch: int = 1

    @property
    def tokens(self) -> int:
        """``length``, where it is given."""
        assert self.length is not None
        return self.length

    @property
    def kinds(self) -> list[tuple[str, bool]]:
        """``what`` and ``composed`` of all records that come of it; that of the first stands for it if none do."""
        measured = [(what, False) for what in WHAT[self.how].values()]
        return measured + [(what, True) for what in WHAT[WHOLE].values()] if self.how == SLICES else measured

    def record(
        self, what: str, dtype: str, stack: Stack | None = None, composed: bool = False, **columns: Any
    ) -> InferenceSpeedRecord:
        """A record of this case with the measured ``columns``."""
        layers = asdict(stack) if stack else {}
        identity = {"what": what, "composed": composed, "shape": self.shape.name, "length": self.length}
        return InferenceSpeedRecord.blank(**identity, batch=self.batch, dtype=dtype, **layers, **columns)

    def cost(self, stage: str, stack: Stack, bytes_per_value: int) -> int:
        """What a stage needs at least: floating-point operations to prefill, bytes read in a step of decoding."""
        model = stack.model(self.shape)
        if stage == PREFILL:
            return model.prefill_flops(self.tokens, self.batch)
        return model.decode_bytes(self.tokens, self.batch, bytes_per_value)


def predicted_bytes(
    shape: ModelShape, stack: Stack, length: int, chunk: int, bytes_per_value: int, batch: int = 1
) -> int:
    """Most memory of ``stack`` with ``length`` tokens of each sequence: weights, and prefill or the cache of decoding.

    Workspaces of attention and of the CUDA context are not counted: what is predicted to fit may still not.
    """
    model = stack.model(shape)
    prefill = model.prefill_peak_bytes(length, chunk, batch, bytes_per_value)
    cache = model.kv_cache_bytes(length, bytes_per_value, batch, full_chunk=GROWTH_TOKENS, slots=True)
    return max(prefill, model.shape.parameters * bytes_per_value + cache)


def unsupported_records(case: InferenceCase, dtype: str, stack: Stack, reason: str) -> list[InferenceSpeedRecord]:
    """The records of a whole model that does not fit."""
    return [case.record(what, dtype, stack, status=UNSUPPORTED, reason=reason) for what in WHAT[WHOLE].values()]


def records_of(
    case: InferenceCase,
    stage: str,
    dtype: str,
    bytes_per_value: int,
    timings: Mapping[Stack, Sequence[InferenceTiming]],
) -> list[InferenceSpeedRecord]:
    """All records of one stage of one case. Bytes of a composed cache are the sum of its layers'.

    Args:
        case: slices, or the whole model.
        stage: ``prefill`` or ``decode``.
        dtype: of weights, activations and cache.
        bytes_per_value: of it.
        timings: of each stack in every round; there is no speed-up where full attention is not among them.
    """
    seconds = {stack: [one.timing.seconds for one in rounds] for stack, rounds in timings.items()}
    kv_bytes = {stack: rounds[-1].kv_bytes for stack, rounds in timings.items()}
    parts = parts_by_round(seconds) if case.how == SLICES else []

    def cost(stack: Stack) -> int:
        return case.cost(stage, stack, bytes_per_value)

    records = []
    for stack, columns in comparison_columns(seconds, COST_COLUMNS[stage], cost, parts).items():
        columns |= {"peak_bytes": timings[stack][-1].timing.peak_bytes, "kv_bytes": kv_bytes[stack]}
        records.append(case.record(WHAT[case.how][stage], dtype, stack, **columns))
    if case.how == SLICES:
        layer, wholes = layer_bytes(kv_bytes), composed_times(whole_models(case.shape), parts)
        for whole, columns in comparison_columns(wholes, COST_COLUMNS[stage], cost).items():
            size = sum(count * layer[kind] for kind, count in whole.layers.items())
            records.append(case.record(WHAT[WHOLE][stage], dtype, whole, True, **columns, kv_bytes=size))
    return records


def layer_bytes(kv_bytes: Mapping[Stack, int]) -> dict[str, int]:
    """Bytes of the cache of one layer of every kind, from those of stacks, one of which is full attention."""
    full = next(
        size // stack.num_layers for stack, size in kv_bytes.items() if stack.pattern == FULL and stack.num_layers
    )
    sizes = {FULL: full}
    for stack, size in kv_bytes.items():
        if stack.pattern != FULL:
            sizes[stack.pattern] = (size - stack.full_layers * full) // (stack.num_layers - stack.full_layers)
    return sizes
