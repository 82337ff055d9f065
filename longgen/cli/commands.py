"""`longgen commands`: a run as a shell script, for machines without Snakemake."""

from __future__ import annotations

import os

from longgen.cli.options.workflow import CommandsOptions
from longgen.cluster import REQUESTS
from longgen.config import load_experiment
from longgen.workflow import selected_variants, workflow_jobs
from longgen.workflow.script import shell_script


def commands(options: CommandsOptions) -> None:
    """Print the script."""
    experiment = load_experiment(options.config)
    selected_variants(experiment, options.select)
    experiment.setup_named(options.setup)
    threads = dict.fromkeys(REQUESTS, options.cpus or len(os.sched_getaffinity(0)))
    jobs = workflow_jobs(options.config, options.select, options.setup, threads)
    jobs = [job for job in jobs if options.figures or job.rule != "run_figures"]
    print(shell_script(jobs, experiment.name, f"artifacts/{experiment.name}/done"), end="")
