"""The configuration of an experiment, as dataclasses."""

from longgen.config.benchmarks import (
    BenchmarksSettings,
    DuoAttentionSettings,
    KvReductionSettings,
    PerplexitySettings,
    ShortContextSettings,
    SuiteSettings,
)
from longgen.config.cluster import ClusterSettings
from longgen.config.experiment import Experiment, Variant, load_experiment, require_part
from longgen.config.parts import (
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
from longgen.data.sources import DataSettings

__all__ = [
    "BenchmarksSettings",
    "ClusterSettings",
    "DataSettings",
    "DuoAttentionSettings",
    "Experiment",
    "ExtensionSettings",
    "KvReductionSettings",
    "LoraSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PerplexitySettings",
    "PhaseSettings",
    "ProbeSettings",
    "ProfilingSettings",
    "SetupSettings",
    "ShortContextSettings",
    "SuiteSettings",
    "TrainingSettings",
    "Variant",
    "VariantSettings",
    "load_experiment",
    "require_part",
]
