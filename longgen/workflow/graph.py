"""All jobs of a run, as Snakemake plans them from the Snakefile.

Snakemake plans in a process of its own (``python -m longgen.workflow.graph``): it sets up logging, signals and the
environment as if it were the program.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from longgen.config import Experiment
from longgen.errors import ConfigError
from longgen.files import fingerprint_files
from longgen.program import run_program
from longgen.provenance import fingerprint

SNAKEFILE = Path("Snakefile")
PLANS_ONLY = "LONGGEN_PLANS_ONLY"  # in the environment of a Snakemake that changes nothing, not even a stale lock


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes:
        identity: fingerprint of what determines what it makes: its rule, wildcards and params, the contents of the
            files that it reads and no job makes, and all this of the jobs before it. The number of processors is no
            part of it.
        rule: its rule.
        wildcards: of the job, by name.
        command: that it runs; empty if it runs none.
        outputs: files and folders that it makes.
        touched: those outputs that Snakemake itself makes, empty, when the command has succeeded.
        temporary: those that are deleted when no job is left that needs them.
        needs: identities of the jobs that make what it reads.
        logs: files that its messages go to.
        threads: processors that Snakemake schedules it with.
        is_due: whether Snakemake would run it; of jobs that were planned as if nothing was there, always.
    """

    identity: str
    rule: str
    wildcards: dict[str, str]
    command: str
    outputs: list[str]
    touched: list[str]
    temporary: list[str]
    needs: list[str]
    logs: list[str] = field(default_factory=list)
    threads: int = 1
    is_due: bool = True

    @property
    def name(self) -> str:
        """The rule with its wildcards."""
        return " ".join([self.rule, *(f"{key}={value}" for key, value in self.wildcards.items())])


def workflow_jobs(
    config: Path,
    select: str = "default",
    setup: str | None = None,
    threads: Mapping[str, int] | None = None,
    cores: int | None = None,
) -> list[Job]:
    """All jobs of ``snakemake --config experiment=CONFIG select=SELECT setup=SETUP``, done or not.

    Args:
        config: of an experiment that was read without an error.
        select: variants, as `longgen.workflow.selected_variants` takes them.
        setup: one of the experiment's set-ups of processes; None: its own choice.
        threads: of the jobs of some rules, in place of what the rules say.
        cores: look at what is there, as a run with so many processors would: jobs say whether they are due. None: as if
            nothing was there.

    Returns:
        all jobs, each after those that it needs.

    Raises:
        ConfigError: there is no Snakemake or no Snakefile here, or Snakemake cannot plan the run.
    """
    need_snakemake()
    if not SNAKEFILE.exists():
        raise ConfigError(
            f"there is no {SNAKEFILE} in {Path.cwd()}: allowed is a clone of the project as working directory"
        )
    workflow_config = {"experiment": str(config), "select": select} | ({"setup": setup} if setup else {})
    request = json.dumps({"threads": threads or {}, "config": workflow_config, "cores": cores})
    command = [sys.executable, "-m", "longgen.workflow.graph", request]
    environment = os.environ | {PLANS_ONLY: "1"}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        error = process.stderr.rpartition("snakemake: error: ")[2]  # after what Snakemake says of itself
        message = " ".join(error.split()) or f"exit code {process.returncode}"
        raise ConfigError(f"{config}: Snakemake cannot plan this run: {message}")
    return [Job(**job) for job in json.loads(process.stdout.splitlines()[-1])]


def need_snakemake() -> None:
    """Raise ConfigError, with the command that helps, unless Snakemake and what comes with it are installed."""
    if importlib.util.find_spec("snakemake") is None or importlib.util.find_spec("psutil") is None:
        raise ConfigError(
            "the jobs of a run are planned by Snakemake, which is not installed: pip install 'longgen[pipeline]'"
        )


def selected_variants(experiment: Experiment, select: str = "default") -> list[str]:
    """The variants of an invocation: the configuration's default ones (``default``), ``all``, or names with commas.

    Raises:
        ConfigError: an unknown name, or the full model is not among them.
    """
    if select == "default":
        return experiment.default_variants
    if select == "all":
        return list(experiment.variants)
    names = select.split(",")
    variants = [name for name in experiment.variants if name in names]
    if set(names) - set(variants) or "full" not in variants:
        allowed = ", ".join(experiment.variants)
        raise ConfigError(f"select is {select!r}: allowed are default, all, or names with full among them: {allowed}")
    return variants


def _plan_jobs(threads: Mapping[str, int], config: Mapping[str, str], cores: int | None) -> list[Job]:
    """`workflow_jobs`, in this process."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(
                cores=cores or max(threads.values(), default=1), overwrite_threads=dict(threads)
            ),
            config_settings=ConfigSettings(config=dict(config)),
            snakefile=SNAKEFILE,
        )
        workflow.dag(DAGSettings(forceall=cores is None)).execute_workflow(executor="dryrun")
        # the API prints graphs and does not give them
        dag = workflow._workflow.dag
        jobs: dict[Any, Job] = {}
        rules = {name: place for place, name in enumerate(dict.fromkeys(job.rule.name for job in dag.jobs))}

        def visit(job: Any) -> Job:
            """A job after those that it needs, in the order in which the workflow's files name rules and variants."""
            if job not in jobs:
                before = sorted(dag.dependencies[job], key=lambda other: (rules[other.rule.name], other.jobid))
                jobs[job] = _job(job, [visit(other) for other in before], is_due=bool(dag.needrun(job)))
            return jobs[job]

        for job in dag.targetjobs:
            visit(job)
        return [job for job in jobs.values() if job.command]


def _job(job: Any, before: list[Job], is_due: bool) -> Job:
    """One of Snakemake's jobs, after those that it needs."""

    def outputs_with_flag(name: str) -> list[str]:
        return [str(path) for path in job.output if getattr(path, "flags", {}).get(name)]

    wildcards = {key: str(value) for key, value in job.wildcards_dict.items()}
    of_other_jobs = {path for other in before for path in other.outputs}
    sources = sorted(path for path in map(str, job.input) if path not in of_other_jobs and Path(path).is_file())
    contents = fingerprint_files(map(Path, sources))
    params = {key: str(value) for key, value in job.params.items()}
    needs = [other.identity for other in before]
    return Job(
        identity=fingerprint([job.rule.name, wildcards, params, job.rule.shellcmd, sources, contents, needs]),
        rule=job.rule.name,
        wildcards=wildcards,
        command=job.shellcmd or "",
        outputs=[str(path) for path in job.output],
        touched=outputs_with_flag("touch"),
        temporary=outputs_with_flag("temp"),
        needs=needs,
        logs=[str(path) for path in job.log],
        threads=int(job.threads),
        is_due=is_due,
    )


def _main() -> None:
    from snakemake.exceptions import RuleException, WorkflowError

    try:
        jobs = _plan_jobs(**json.loads(sys.argv[1]))
    except (WorkflowError, RuleException) as error:
        raise ConfigError(str(error)) from None
    print(json.dumps([asdict(job) for job in jobs]))


if __name__ == "__main__":
    run_program(_main, "snakemake")
