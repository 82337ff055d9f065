"""The jobs of a run: Snakemake's own graph, read by what needs no Snakemake to run or only counts them."""

from longgen.workflow.graph import Job, workflow_jobs
from longgen.workflow.select import selected_variants

__all__ = ["Job", "selected_variants", "workflow_jobs"]
