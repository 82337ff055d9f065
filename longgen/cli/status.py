"""`longgen status`: how far a run is, and what the next command would do."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import typer

from longgen.cli.options.workflow import StatusOptions
from longgen.cluster.costs import expected_seconds, run_seconds
from longgen.config import Experiment, load_experiment
from longgen.errors import TO_BE_CONTINUED, ConfigError
from longgen.tables import FILE_WIDTH, Table, terminal_width, wrapped
from longgen.units import readable_seconds
from longgen.workflow import selected_variants, workflow_jobs
from longgen.workflow.lock import Holder, is_locked, noted_holder
from longgen.workflow.status import JobStatus, State, job_statuses, last_lines

SOME_FAILED = 1
_LOG_LINES = 5


def status(options: StatusOptions) -> None:
    """Print it. Exits with 0 when all is there, `SOME_FAILED`, or `TO_BE_CONTINUED` when something is left."""
    experiment = load_experiment(options.config)
    variants = selected_variants(experiment, options.select)
    experiment.setup_named(options.setup)
    holder = noted_holder() if is_locked() else None
    cores = options.cores or len(os.sched_getaffinity(0))
    statuses = job_statuses(workflow_jobs(options.config, options.select, options.setup, cores=cores), holder)
    is_left = any(each.state is not State.DONE for each in statuses)
    expected = _expected(options, experiment, variants, statuses) if options.time and is_left else {}
    if options.as_json:
        print(json.dumps(_as_data(statuses, holder, expected, cores)))
    else:
        _print(options, experiment, statuses, holder, expected, cores)
    raise typer.Exit(_exit_code(statuses))


def _exit_code(statuses: list[JobStatus]) -> int:
    states = {each.state for each in statuses}
    if State.FAILED in states:
        return SOME_FAILED
    return 0 if states <= {State.DONE} else TO_BE_CONTINUED


def _expected(
    options: StatusOptions, experiment: Experiment, variants: list[str], statuses: list[JobStatus]
) -> dict[str, float]:
    """Seconds of every job, by identity; predicted from the measured rates of this machine's processors."""
    began = time.perf_counter()
    from longgen.profiling.device import processor_rates  # with PyTorch, as most jobs take it

    start = time.perf_counter() - began
    flops, bandwidth = processor_rates()
    cluster = replace(experiment.cluster, cpu_flops=flops, cpu_bandwidth=bandwidth)
    here = replace(experiment, cluster=cluster)
    jobs = [each.job for each in statuses]
    try:
        return expected_seconds(jobs, here, here.setup_named(options.setup), variants, start)
    except ConfigError as error:
        raise ConfigError(f"{options.config}, set-up {options.setup or experiment.setup}: {error}") from None


def _print(
    options: StatusOptions,
    experiment: Experiment,
    statuses: list[JobStatus],
    holder: Holder | None,
    expected: dict[str, float],
    cores: int,
) -> None:
    counts = Counter(each.state for each in statuses)
    parts = [f"{counts[State.DONE]} of {len(statuses)} jobs done"]
    parts += [f"{counts[state]} {state}" for state in _OPEN_STATES if counts[state]]
    _say(f"{experiment.name} ({options.config}, variants: {options.select}): {', '.join(parts)}\n")
    _print_stages(statuses, expected)
    if expected and (due := [each.job for each in statuses if each.state is not State.DONE]):
        duration = readable_seconds(run_seconds(due, expected, cores))
        _say(f"What is left takes about {duration} on {cores} processors of this machine: predicted, a rough guide.\n")
    for each in statuses:
        if each.state is State.RUNNING:
            process = f"process {each.process}, for {readable_seconds(each.seconds or 0)}"
            _say(f"running: {each.job.name} ({process}{_log_words(each)})")
            _print_log(each.log, 1)
    for each in statuses:
        if each.state in (State.FAILED, State.STOPPED):
            what = "failed" if each.state is State.FAILED else "began and did not end"
            _say(f"{what}: {each.job.name} ({_log_words(each).removeprefix(', ')})")
            _print_log(each.log, _LOG_LINES)
    for line in _next(options, counts, holder):
        _say(line)


_OPEN_STATES = (State.RUNNING, State.FAILED, State.STOPPED, State.WAITING)


def _print_stages(statuses: list[JobStatus], expected: dict[str, float]) -> None:
    """A row per rule, in the order of the run."""
    table = Table(["stage", "not done"], ["done", *(["expected"] if expected else [])])
    for rule in dict.fromkeys(each.job.rule for each in statuses):
        jobs = [each for each in statuses if each.job.rule == rule]
        num_done = sum(each.state is State.DONE for each in jobs)
        due = [expected.get(each.job.identity, 0) for each in jobs if each.state is not State.DONE]
        times = [readable_seconds(sum(due)) if due else ""] if expected else []
        words = [_of_state(jobs, state) for state in _OPEN_STATES]
        table.add(rule, "; ".join(filter(None, words)), f"{num_done} of {len(jobs)}", *times)
    table.print()


def _of_state(jobs: list[JobStatus], state: State) -> str:
    """Such as "to do: full, all-sparse": wildcards, or nothing more of a rule with a single job."""
    of_state = [each for each in jobs if each.state is state]
    if not of_state:
        return ""
    names = [" ".join(each.job.wildcards.values()) for each in of_state]
    return f"{state}: {', '.join(names)}" if all(names) else str(state)


def _log_words(each: JobStatus) -> str:
    return f", log {each.log}" if each.log else ""


def _print_log(log: Path | None, count: int) -> None:
    for line in last_lines(log, count) if log else []:
        for part in wrapped(line, _width() - 4) or [""]:
            print(f"    {part}")


def _next(options: StatusOptions, counts: Counter[State], holder: Holder | None) -> list[str]:
    """What holds the folder, and what to call."""
    config = [
        f"experiment={options.config}",
        *([f"select={options.select}"] if options.select != "default" else []),
    ]
    config += [f"setup={options.setup}"] if options.setup else []
    command = f"snakemake --cores all --config {' '.join(config)}"
    open_jobs = sum(counts[state] for state in _OPEN_STATES)
    if not open_jobs:
        return [f"`{command}` would do nothing: all is there."]
    if holder and not holder.is_here:
        return [f"A run on {holder.host} (process {holder.process}) holds this folder, or was killed there."]
    if holder and holder.lives:
        where = "" if holder.jobs_here else ": its jobs are those of Slurm, which `squeue` shows"
        return [f"The run of process {holder.process} works in this folder{where}. It does what is left."]
    words = [f"next: `{command}` would do {open_jobs} job{'s' * (open_jobs > 1)}."]
    if holder and holder.jobs_here:
        words.insert(0, f"The run of process {holder.process} was killed: the next one removes the lock that it left.")
    elif holder or is_locked():
        words.insert(0, "This folder is locked: if no run works in it, `snakemake --unlock --cores 1` frees it.")
    return words


def _as_data(statuses: list[JobStatus], holder: Holder | None, expected: dict[str, float], cores: int) -> dict:
    due = [each.job for each in statuses if each.state is not State.DONE]
    jobs = [
        {
            "rule": each.job.rule,
            "wildcards": each.job.wildcards,
            "state": str(each.state),
            "process": each.process,
            "running_seconds": each.seconds,
            "log": str(each.log) if each.log else None,
            "outputs": each.job.outputs,
            **({"expected_seconds": expected[each.job.identity]} if expected else {}),
        }
        for each in statuses
    ]
    time_left = {"expected_seconds_left": run_seconds(due, expected, cores)} if expected else {}
    works = holder is not None and holder.is_here and holder.lives
    return {"jobs": jobs, "locked": is_locked(), "process": holder.process if holder and works else None, **time_left}


def _say(text: str) -> None:
    for line in text.split("\n"):
        print("\n".join(wrapped(line, terminal_width())))


def _width() -> int:
    return terminal_width() or FILE_WIDTH
