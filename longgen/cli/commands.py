"""`longgen commands`: a run as a shell script, for machines without Snakemake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def commands(
    config: Annotated[
        Path, typer.Argument(help="The experiment, such as config/mini.yaml.", metavar="config", show_default=False)
    ],
    select: Annotated[str, typer.Option(help="Variants as in the workflow: default, all, or names.")] = "default",
    setup: Annotated[
        str | None, typer.Option(help="One of its set-ups of processes for training.", show_default="its own choice")
    ] = None,
    cpus: Annotated[
        int, typer.Option(min=0, help="Processors that every command uses.", show_default="those of this machine")
    ] = 0,
    figures: Annotated[
        bool, typer.Option(help="Draw the figures at the end, which takes pandas and Matplotlib.")
    ] = True,
) -> None:
    """Print what the workflow runs as a script for bash: longgen commands CONFIG > run.sh.

    It takes longgen to run, and not Snakemake. Run it again after an interruption: what is done is left out.
    `bash run.sh 9` ends after nine minutes, training with a checkpoint, and with exit code 75 if something is left.
    """
    from longgen.cluster import REQUESTS
    from longgen.config import load_experiment
    from longgen.workflow import selected_variants, workflow_jobs
    from longgen.workflow.script import shell_script

    experiment = load_experiment(config)
    selected_variants(experiment, select)
    experiment.setup_named(setup)
    threads = dict.fromkeys(REQUESTS, cpus or len(os.sched_getaffinity(0)))
    jobs = workflow_jobs(config, select, setup, threads)
    jobs = [job for job in jobs if figures or job.rule != "run_figures"]
    print(shell_script(jobs, experiment.name, f"artifacts/{experiment.name}/done"), end="")
