"""What a hybrid costs, by arithmetic alone: memory, FLOPs, bytes moved, and what they allow. Never a measurement."""

from longgen.planner.budget import Choice, layouts_for_budget
from longgen.planner.costs import (
    attention_flops,
    decode_bytes,
    decode_flops,
    kv_cache_bytes,
    prefill_flops,
    prefill_peak_bytes,
    training_flops,
    working_bytes,
)
from longgen.planner.experiment import (
    experiment_lengths,
    experiment_records,
    experiment_settings,
    experiment_shape,
)
from longgen.planner.predictions import Plan, make_plan

__all__ = [
    "Choice",
    "Plan",
    "attention_flops",
    "decode_bytes",
    "decode_flops",
    "experiment_lengths",
    "experiment_records",
    "experiment_settings",
    "experiment_shape",
    "kv_cache_bytes",
    "layouts_for_budget",
    "make_plan",
    "prefill_flops",
    "prefill_peak_bytes",
    "training_flops",
    "working_bytes",
]
