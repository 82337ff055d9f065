"""`longgen plan cluster`: the jobs, hours and storage of a whole run on a cluster, by arithmetic alone."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longgen.tables import Table
from longgen.units import binary_size

if TYPE_CHECKING:
    from longgen.cluster.costs import RuleCost


def cluster(
    config: Annotated[Path, typer.Option(help="The experiment, such as config/llama2-7b.yaml.", show_default=False)],
    setup: Annotated[
        str | None, typer.Option(help="One of its set-ups of processes for training.", show_default="its own choice")
    ] = None,
    select: Annotated[str, typer.Option(help="Variants as in the workflow: default, all, or names.")] = "default",
    this_machine: Annotated[
        bool,
        typer.Option(
            "--this-machine", help="For the processors of this machine, whose rates are measured first: seconds."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Predict what a run of the workflow takes: jobs, GPU-hours and CPU-hours by rule, and storage.

    Which jobs there are, Snakemake says, in a clone of the project.

    All of it is predicted, and nothing measured: longgen/cluster/assumptions.py says from what.
    With --this-machine the processors' rates are: a third of what a matrix product reaches, in the dtype that computes
    here. A rough guide.
    """
    from longgen.cluster.costs import run_costs, run_storage
    from longgen.config import load_experiment
    from longgen.errors import ConfigError
    from longgen.workflow import selected_variants, workflow_jobs

    experiment = load_experiment(config)
    if this_machine:
        from longgen.profiling.device import processor_rates

        flops, bandwidth = processor_rates()
        measured = replace(experiment.cluster, cpu_flops=flops, cpu_bandwidth=bandwidth)
        experiment = replace(experiment, cluster=measured)
    chosen, variants = experiment.setup_named(setup), selected_variants(experiment, select)
    setup = setup or experiment.setup
    jobs = workflow_jobs(config, select, setup)
    try:
        given = (experiment, chosen, variants, jobs)
        costs, storage = run_costs(*given), run_storage(*given)
    except ConfigError as error:
        raise ConfigError(f"{config}, set-up {setup}: {error}") from None
    if as_json:
        rules = [asdict(cost) | {"gpu_hours": cost.gpu_hours, "cpu_hours": cost.cpu_hours} for cost in costs]
        totals = {"jobs": sum(cost.jobs for cost in costs)}
        totals |= {name: sum(rule[name] for rule in rules) for name in ("gpu_hours", "cpu_hours")}
        print(json.dumps({"predicted": True, "rules": rules, "totals": totals, "storage_bytes": storage}))
        return
    known = experiment.cluster
    gpu = known.gpu
    title = f"{config}, set-up {setup}: {', '.join(variants)}"
    assumed = f"predicted, not measured; {gpu}, {100 * known.utilization:.0f} % of its rates assumed"
    if not any(cost.gpus for cost in costs):
        where = "a processor of this machine" if this_machine else "a processor"
        rates = f"{known.cpu_flops / 1e9:,.1f} GFLOP/s and {known.cpu_bandwidth / 1e9:,.1f} GB/s"
        assumed = f"predicted, not measured; {rates} assumed of {where}"
    _print_costs(costs, title, assumed)
    _print_storage(storage, assumed)
    for cost in costs:
        if not cost.fits:
            print(f"{cost.rule} is predicted to need {binary_size(cost.gpu_memory)} per GPU: more than {gpu} has")


def _print_costs(costs: list[RuleCost], title: str, caption: str) -> None:
    columns = ["jobs", "nodes", "GPUs", "CPUs", "hours each", "GPU-hours", "CPU-hours", "GPU memory", "main memory"]
    table = Table(["rule"], columns, title, caption)
    for cost in costs:
        table.add(
            cost.rule,
            *(f"{count:,}" for count in (cost.jobs, cost.nodes, cost.gpus, cost.cpus)),
            *(f"{hours:,.2f}" for hours in (cost.hours, cost.gpu_hours, cost.cpu_hours)),
            binary_size(cost.gpu_memory) if cost.gpus else "",
            binary_size(cost.memory),
        )
    totals = (sum(cost.gpu_hours for cost in costs), sum(cost.cpu_hours for cost in costs))
    jobs = f"{sum(cost.jobs for cost in costs):,}"
    table.add("in all", jobs, "", "", "", "", *(f"{hours:,.2f}" for hours in totals), "", "")
    table.print()


def _print_storage(storage: dict[str, int], caption: str) -> None:
    table = Table(["what"], ["size"], "storage at most", caption)
    for name, count in (storage | {"in all": sum(storage.values())}).items():
        table.add(name, binary_size(count))
    table.print()
