"""The configuration of an experiment, as dataclasses."""

from longgen.config.benchmarks import (
    BenchmarksSettings,
    LongTextSettings,
    ReducedSettings,
    ShortContextSettings,
    SuiteSettings,
)
from longgen.config.cluster import ClusterSettings
from longgen.config.experiment import Experiment, Variant, load_experiment, require_part
from longgen.config.parts import (
    DataSettings,
    DuoAttentionSettings,
    EvaluationSettings,
    KvReductionSettings,
    ModelSettings,
    ProbeSettings,
    ProfilingSettings,
    VariantSettings,
)
from longgen.config.training import (
    ExtensionSettings,
    LoraSettings,
    OptimizerSettings,
    PhaseSettings,
    SetupSettings,
    TrainingSettings,
)

__all__ = [
    "BenchmarksSettings",
    "ClusterSettings",
    "DataSettings",
    "DuoAttentionSettings",
    "EvaluationSettings",
    "Experiment",
    "ExtensionSettings",
    "KvReductionSettings",
    "LongTextSettings",
    "LoraSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PhaseSettings",
    "ProbeSettings",
    "ProfilingSettings",
    "ReducedSettings",
    "SetupSettings",
    "ShortContextSettings",
    "SuiteSettings",
    "TrainingSettings",
    "Variant",
    "VariantSettings",
    "load_experiment",
    "require_part",
]
