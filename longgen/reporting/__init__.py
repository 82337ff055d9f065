"""Figures, tables and the claims ledger: pure functions of results files, without torch and without a GPU."""

from __future__ import annotations

import importlib.util

from longgen.errors import ConfigError
from longgen.records.kinds import (
    BENCHMARKS,
    EXPERIMENT,
    INFERENCE,
    KERNELS,
    PACKING,
    PROBE,
    REDUCTIONS,
    SEEDS,
    SERVING,
    STEPS,
)

# The figures by subject, known without importing matplotlib: a figure is an entry here, and a module of its name in
# `longgen.reporting.figures` (of seeds: `longgen.reporting.seeds.report`). The workflow makes all of an experiment's.
FIGURE_NAMES: dict[str, tuple[str, ...]] = {
    EXPERIMENT: (
        "pattern",
        "layouts",
        "retrieval",
        "task_scores",
        "training",
        "ratio_placement_pattern",
        "pareto",
        "speedup",
        "speed_by_length",
        "time_by_length",
        "kv",
    ),
    REDUCTIONS: ("needle_reductions",),
    BENCHMARKS: ("needle", "ruler_by_length", "ruler_tasks", "perplexity"),
    KERNELS: ("kernels",),
    STEPS: ("training_by_length",),
    INFERENCE: ("inference_by_length",),
    SERVING: ("serving",),
    PACKING: ("packing",),
    PROBE: ("probe",),
    SEEDS: ("seeds_ablation", "seeds_knee", "seeds_by_length"),
}
# The tables by subject; what makes each is in `longgen.reporting.report.TABLES`.
TABLE_NAMES: dict[str, tuple[str, ...]] = {
    EXPERIMENT: ("ablation", "task_scores_table", "claims"),
    REDUCTIONS: ("kv_reductions",),
    BENCHMARKS: ("benchmark_scores", "benchmark_summary", "ruler_tasks_table", "short_context"),
    KERNELS: ("kernel_table", "attention_speed"),
    STEPS: ("training_speed",),
    INFERENCE: ("inference_speed",),
    SERVING: ("serving_speed",),
    PACKING: ("packing_table",),
    PROBE: (),
    SEEDS: ("seeds", "evidence"),
}


def need_report_packages() -> None:
    """Raise ConfigError, with the command that helps, unless the packages of the ``report`` extra are installed."""
    missing = [name for name in ("matplotlib", "pandas", "tabulate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed: `pip install 'longgen[report]'` installs what is needed"
        )
