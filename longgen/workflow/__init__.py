"""The jobs of a run: Snakemake's own graph, read by what needs no Snakemake to run or only counts them."""

from longgen.workflow.graph import Job, selected_variants, workflow_jobs

__all__ = ["Job", "selected_variants", "workflow_jobs"]
