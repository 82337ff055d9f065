"""Figures, tables and the claims ledger: pure functions of results files, without torch and without a GPU."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import pandas as pd

# The figures by subject, known without importing matplotlib: a figure is an entry here, and a module of its name in
# `longgen.reporting.figures` (of seeds: one of `longgen.reporting.seeds`, without the prefix). The workflow makes all
# of an experiment's.
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
# The tables by subject, and what makes each: a function of a module here, from a run to the table as CSV and as
# Markdown; of seeds, from a group and its values.
TABLES: dict[str, dict[str, str]] = {
    EXPERIMENT: {
        "ablation": "ablation:make_table",
        "task_scores_table": "task_scores:make_table",
        "claims": "claims_text:make_table",
    },
    REDUCTIONS: {"kv_reductions": "kv_reductions:make_table"},
    BENCHMARKS: {
        "benchmark_scores": "benchmark_tables:benchmark_scores",
        "benchmark_summary": "benchmark_tables:benchmark_summary",
        "ruler_tasks_table": "benchmark_tables:ruler_tasks",
        "short_context": "benchmark_tables:short_context",
    },
    KERNELS: {"kernel_table": "kernel_table:make_table", "attention_speed": "attention_speed:make_table"},
    STEPS: {"training_speed": "training_speed:make_table"},
    INFERENCE: {"inference_speed": "inference_speed:make_table"},
    SERVING: {"serving_speed": "serving_speed:make_table"},
    PACKING: {"packing_table": "packing_table:make_table"},
    PROBE: {},
    SEEDS: {"seeds": "seeds.table:make_table", "evidence": "seeds.evidence_text:make_table"},
}
TABLES_OF_RUNS = tuple(name for subject, tables in TABLES.items() if subject != SEEDS for name in tables)


def table_maker(name: str) -> Callable[..., tuple[pd.DataFrame, str]]:
    """What makes a table of `TABLES`."""
    module, function = next(tables[name] for tables in TABLES.values() if name in tables).split(":")
    made_by = importlib.import_module(f"{__package__}.{module}")
    maker: Callable[..., tuple[pd.DataFrame, str]] = getattr(made_by, function)
    return maker


def need_report_packages() -> None:
    """Raise ConfigError, with the command that helps, unless the packages of the ``report`` extra are installed."""
    missing = [name for name in ("matplotlib", "pandas", "tabulate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed: `pip install 'longgen[report]'` installs what is needed"
        )
