"""Predictions for one hybrid and length, and the ideal speed-ups that its costs allow.

An ideal speed-up is the same quantity of full attention divided by that of the hybrid: what a machine would reach that
is limited by nothing else (FLOPs for prefill and training, bytes for decoding). It is a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

from longgen.planner.model import Model


@dataclass(frozen=True)
class CostPlan:
    """Predictions for one model and length; the ideals compare with full attention.

    Attributes:
        length: tokens per sequence.
        kv_bytes: bytes of the hybrid's KV cache.
        kv_bytes_full: bytes with full attention in all layers.
        kv_fraction: ``kv_bytes / kv_bytes_full``.
        kv_reduction: ``1 - kv_fraction``.
        prefill_flops: see `Model.prefill_flops`.
        training_flops: see `Model.training_flops`; without recomputation.
        decode_bytes: see `Model.decode_bytes`.
        ideal_prefill_speedup: by FLOPs.
        ideal_decode_speedup: by bytes.
        ideal_training_speedup: by FLOPs; the same with and without recomputation.
    """

    length: int
    kv_bytes: int
    kv_bytes_full: int
    kv_fraction: float
    kv_reduction: float
    prefill_flops: int
    training_flops: int
    decode_bytes: int
    ideal_prefill_speedup: float
    ideal_decode_speedup: float
    ideal_training_speedup: float


def make_plan(model: Model, length: int, batch: int = 1, bytes_per_value: int = 2) -> CostPlan:
    """The predictions for one length; arguments as in `Model.decode_bytes`.

    Raises:
        ConfigError: as `Model`'s counts.
    """
    both = (model, model.full)
    kv, kv_full = (each.kv_cache_bytes(length, bytes_per_value, batch) for each in both)
    prefill, prefill_full = (each.prefill_flops(length, batch) for each in both)
    training, training_full = (each.training_flops(length, batch) for each in both)
    decode, decode_full = (each.decode_bytes(length, batch, bytes_per_value) for each in both)
    return CostPlan(
        length=length,
        kv_bytes=kv,
        kv_bytes_full=kv_full,
        kv_fraction=kv / kv_full,
        kv_reduction=1 - kv / kv_full,
        prefill_flops=prefill,
        training_flops=training,
        decode_bytes=decode,
        ideal_prefill_speedup=prefill_full / prefill,
        ideal_decode_speedup=decode_full / decode,
        ideal_training_speedup=training_full / training,
    )
