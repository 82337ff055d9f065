"""`longgen plan`: what a hybrid costs, and what a KV budget buys, by arithmetic alone (no torch, no GPU)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from longgen.cli.options.planning import PlanOptions
from longgen.cli.plan_budget import budget_rows, print_budget
from longgen.cli.plan_inference import more_columns, print_expected, print_inference
from longgen.cli.plan_tables import print_plans
from longgen.config import load_experiment
from longgen.hybrid import Hybrid
from longgen.model import Model, make_plan
from longgen.planner import experiment_records, experiment_settings
from longgen.probed_layout import read_probe
from longgen.provenance import provenance
from longgen.records.schema import row_of
from longgen.results import Result, save_result


def plan(options: PlanOptions) -> None:
    """Print what the options ask for, as tables or as JSON."""
    tables: tuple[Callable[[list[dict[str, Any]], str], None], ...] = (print_plans, print_inference, print_expected)
    if options.config:
        rows = _plan_experiment(options.config, options.output, options.probe or [])
    elif options.kv_budget is not None:
        rows, tables = budget_rows(options, options.kv_budget), (print_budget,)
    else:
        rows = _plan_model(options)
    if options.as_json:
        for row in rows:
            # three digits are all that the comparison with the paper's -62 % can carry
            rounding = {"kv_reduction": round(row["kv_reduction"], 3)} if "kv_reduction" in row else {}
            print(json.dumps(row | rounding))
    else:
        for show in tables:
            show(rows, str(options.config or options.model))


def _plan_model(options: PlanOptions) -> list[dict[str, Any]]:
    """One row per length and batch, for a model and the pattern that the options describe."""
    shape = options.shape()
    layout, pattern = options.layout(shape), options.sparse_pattern()
    model = Model(shape, Hybrid(layout, pattern))
    columns = {
        "model": shape.name,
        "placement": options.placement,
        "full_layers": layout.num_full,
        "num_layers": layout.num_layers,
        "pattern": pattern.to_dict(),
    }
    rows = [
        columns | {"batch": batch} | asdict(make_plan(model, length, batch, options.bytes_per_value))
        for length, batch in product(options.lengths(), options.batches())
    ]
    return more_columns(options, model, rows)


def _plan_experiment(config: Path, output: Path | None, probes: list[Path]) -> list[dict[str, Any]]:
    """One row per variant and length of an experiment; written to ``output`` as a results file of kind ``plan``."""
    experiment = load_experiment(config)
    records = experiment_records(experiment)
    if output:
        settings = experiment_settings(experiment, [read_probe(path) for path in probes])
        lengths = sorted({record.length for record in records})
        origin = provenance({"settings": settings, "lengths": lengths}, experiment.seed)
        save_result(output, Result("plan", experiment.name, records, origin, settings=settings))
    return [row_of(record) for record in records]
