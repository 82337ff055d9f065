"""What a hybrid costs, by arithmetic alone: memory, FLOPs, bytes moved, and what they allow. Never a measurement."""

from longgen.planner.budget import Choice, layouts_for_budget
from longgen.planner.experiment import (
    experiment_lengths,
    experiment_records,
    experiment_settings,
    experiment_shape,
)

__all__ = [
    "Choice",
    "experiment_lengths",
    "experiment_records",
    "experiment_settings",
    "experiment_shape",
    "layouts_for_budget",
]
