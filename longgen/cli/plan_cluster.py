"""`longgen plan cluster`: the jobs, hours and storage of a whole run on a cluster, by arithmetic alone."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from longgen.cli.options.planning import PlanClusterOptions
from longgen.cluster.costs import RuleCost, run_costs, run_storage
from longgen.config import load_experiment
from longgen.errors import ConfigError
from longgen.tables import Table
from longgen.units import binary_size
from longgen.workflow import selected_variants, workflow_jobs


def plan_cluster(options: PlanClusterOptions) -> None:
    """Print the jobs and the storage of a run, as tables or as JSON."""
    config = options.config
    experiment = load_experiment(config)
    if options.this_machine:
        from longgen.profiling.device import processor_rates  # with PyTorch, which nothing else here takes

        flops, bandwidth = processor_rates()
        cluster = replace(experiment.cluster, cpu_flops=flops, cpu_bandwidth=bandwidth)
        experiment = replace(experiment, cluster=cluster)
    processes, variants = experiment.setup_named(options.setup), selected_variants(experiment, options.select)
    setup = options.setup or experiment.setup
    jobs = workflow_jobs(config, options.select, setup)
    try:
        run = (experiment, processes, variants, jobs)
        costs, storage = run_costs(*run), run_storage(*run)
    except ConfigError as error:
        raise ConfigError(f"{config}, set-up {setup}: {error}") from None
    if options.as_json:
        rules = [asdict(cost) | {"gpu_hours": cost.gpu_hours, "cpu_hours": cost.cpu_hours} for cost in costs]
        totals = {"jobs": sum(cost.jobs for cost in costs)}
        totals |= {name: sum(rule[name] for rule in rules) for name in ("gpu_hours", "cpu_hours")}
        print(json.dumps({"predicted": True, "rules": rules, "totals": totals, "storage_bytes": storage}))
        return
    cluster = experiment.cluster
    gpu = cluster.gpu
    title = f"{config}, set-up {setup}: {', '.join(variants)}"
    caption = f"predicted, not measured; {gpu}, {100 * cluster.utilization:.0f} % of its rates assumed"
    if not any(cost.gpus for cost in costs):
        where = "a processor of this machine" if options.this_machine else "a processor"
        rates = f"{cluster.cpu_flops / 1e9:,.1f} GFLOP/s and {cluster.cpu_bandwidth / 1e9:,.1f} GB/s"
        caption = f"predicted, not measured; {rates} assumed of {where}"
    _print_costs(costs, title, caption)
    _print_storage(storage, caption)
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
