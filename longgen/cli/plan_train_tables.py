"""What `longgen plan train` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from longgen.gpus import GIB
from longgen.planner.training import TrainingPlan, remedies
from longgen.tables import BOLD, Table


def as_record(name: str, plan: TrainingPlan) -> dict[str, Any]:
    """A plan for programs, in bytes and seconds."""
    job = plan.job
    return {
        "name": name,
        "model": job.shape.name,
        "full_layers": job.layout.num_full,
        "num_layers": job.layout.num_layers,
        "pattern": job.model.hybrid.pattern.to_dict(),
        "length": job.length,
        "batch_size": job.batch_size,
        "gpu": job.machine.gpu.name,
        "setup": asdict(job.setup) | {"processes": job.processes},
        "efficiency": job.machine.efficiency,
        "memory": plan.memory,
        "memory_bytes": plan.memory_bytes,
        "available_bytes": job.machine.gpu.memory,
        "fits": plan.fits(),
        "remedies": [] if plan.fits() else remedies(plan),
        "host_memory": plan.host_memory,
        "step": asdict(plan.step),
        "step_seconds": plan.step.total,
        "tokens_per_second": plan.tokens_per_second,
        "mfu": plan.mfu,
        "days": plan.days,
    }


def print_tables(plans: dict[str, TrainingPlan], title: str) -> None:
    """A line per plan; for a single one, its memory by component, too."""
    if len(plans) == 1:
        _components(*next(iter(plans.items()))).print()
    _summary(plans, title).print()


def _components(name: str, plan: TrainingPlan) -> Table:
    """Memory by component."""
    job = plan.job
    layout = f"{job.layout.num_full}/{job.layout.num_layers} layers full"
    table = Table(["memory per GPU"], ["GiB"], f"{name}: {job.length:,} tokens, {layout}")
    for component, count in plan.memory.items():
        table.add(component, f"{count / GIB:.1f}")
    table.add("in all", f"{plan.memory_bytes / GIB:.1f}", style=BOLD)
    table.add(f"there are on {job.machine.gpu.name}", f"{job.machine.gpu.memory / GIB:.1f}")
    for component, count in plan.host_memory.items():
        table.add(f"main memory per node: {component}", f"{count / GIB:.1f}")
    return table


def _summary(plans: dict[str, TrainingPlan], title: str) -> Table:
    """A line per plan."""
    job = next(iter(plans.values())).job
    headings = ("GPUs", "GiB\nper GPU", "fits", "passes\nper step", "step", "tokens/s", "MFU", "all steps")
    caption = f"predicted, not measured; {job.machine.efficiency:.0%} of the peak FLOP/s assumed"
    table = Table(["set-up"], headings, title, caption)
    for name, plan in plans.items():
        table.add(
            name,
            str(plan.job.processes),
            f"{plan.memory_bytes / GIB:.1f}",
            "yes" if plan.fits() else "no",
            str(plan.job.passes),
            f"{plan.step.total:.1f} s",
            f"{plan.tokens_per_second:,.0f}",
            f"{100 * plan.mfu:.0f} %",
            f"{plan.days:.1f} days",
        )
    return table
