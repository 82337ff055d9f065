"""Figures, tables and the claims ledger: pure functions of results files, without torch and without a GPU."""

from __future__ import annotations

import importlib.util

from longgen.errors import ConfigError

# Known without importing matplotlib. Those of an experiment: the workflow makes all of them.
FIGURE_NAMES = (
    "pattern",
    "layouts",
    "needle",
    "retrieval",
    "perplexity",
    "training",
    "ratio_placement_pattern",
    "pareto",
    "speedup",
    "speed_by_length",
    "time_by_length",
    "kv",
)
TABLE_NAMES = ("ablation", "claims")
# Those of an experiment whose full model was evaluated with its KV cache reduced at inference.
REDUCTION_FIGURE_NAMES = ("needle_reductions",)
REDUCTION_TABLE_NAMES = ("kv_reductions",)
# Those of benchmarks: needle, RULER, BABILong, LongBench, long text and short contexts.
BENCHMARK_FIGURE_NAMES = ("benchmark_needle", "ruler_by_length", "long_text")
BENCHMARK_TABLE_NAMES = ("benchmark_scores", "benchmark_summary", "short_context")
# Those of kernels, which `python -m longgen.profiling.gpu` measured: no experiment has them.
KERNEL_FIGURE_NAMES = ("kernels",)
KERNEL_TABLE_NAMES = ("kernel_table", "attention_speed")
# Those of training steps, which `longgen profile train` timed.
STEP_FIGURE_NAMES = ("training_by_length",)
STEP_TABLE_NAMES = ("training_speed",)
# Those of prefill and decoding, which `longgen profile inference` timed.
INFERENCE_FIGURE_NAMES = ("inference_by_length",)
INFERENCE_TABLE_NAMES = ("inference_speed",)
# Those of `longgen pack`.
PACKING_FIGURE_NAMES = ("packing",)
PACKING_TABLE_NAMES = ("packing_table",)
# Those of `longgen probe`.
PROBE_FIGURE_NAMES = ("probe",)
# Those of several runs that differ in name and seed alone.
GROUP_FIGURE_NAMES = ("seeds_ablation", "seeds_knee", "seeds_by_length")
GROUP_TABLE_NAMES = ("seeds", "evidence")


def need_report_packages() -> None:
    """Raise ConfigError, with the command that helps, unless the packages of the ``report`` extra are installed."""
    missing = [name for name in ("matplotlib", "pandas", "tabulate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed: `pip install 'longgen[report]'` installs what is needed"
        )
