"""How far a run is: what is there, what runs, what failed, and what is due."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from longgen.workflow.graph import Job
from longgen.workflow.lock import Holder

MESSAGES = Path(".snakemake/log")  # of Snakemake's own runs, the newest last by name
_EXECUTES = "Select jobs to execute"  # what Snakemake says before it runs jobs
_TAIL_BYTES = 4096  # bytes at the end of a log


class State(StrEnum):
    """Of a job. What Snakemake would not run is done, whoever has made it."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"  # it began and did not end: it was killed, or told to stop
    WAITING = "to do"


@dataclass(frozen=True)
class JobStatus:
    """A job, and what became of it.

    Attributes:
        job: of `longgen.workflow.workflow_jobs`, planned with what is there.
        state: what became of it.
        process: number of the process that does it; None if none does.
        seconds: for how long it has been running; None if it is not.
        log: what it wrote to; None if there is nothing.
    """

    job: Job
    state: State
    process: int | None = None
    seconds: float | None = None
    log: Path | None = None


def job_statuses(jobs: Sequence[Job], holder: Holder | None) -> list[JobStatus]:
    """What became of each job, by Snakemake's plan, the processes of this machine and the logs of the current folder.

    Args:
        jobs: planned with what is there (``cores`` of `longgen.workflow.workflow_jobs`).
        holder: of the folder's lock. If it lives, on this machine, its processes are asked what they do; what it has
            running elsewhere, by Slurm, is not seen.
    """
    processes = _descendants(holder) if holder and holder.is_here and holder.lives else []
    failed_logs = _failed_logs()
    return [_status(job, processes, failed_logs) for job in jobs]


def _status(job: Job, processes: Sequence[tuple[str, psutil.Process]], failed_logs: set[str]) -> JobStatus:
    log = next((Path(path) for path in job.logs if Path(path).is_file() and Path(path).stat().st_size), None)
    # done or not: while a job runs, an output of it may be there already
    doing = next(
        (process for words, process in processes if job.command.strip() and job.command.strip() in words), None
    )
    if doing is not None:
        return JobStatus(job, State.RUNNING, doing.pid, max(0.0, time.time() - doing.create_time()), log)
    if not job.is_due:
        return JobStatus(job, State.DONE, log=log)
    if log is None or _is_older(log, job.outputs):
        return JobStatus(job, State.WAITING)
    return JobStatus(job, State.FAILED if failed_logs & set(job.logs) else State.STOPPED, log=log)


def _is_older(log: Path, outputs: Sequence[str]) -> bool:
    """Whether all outputs were made after the log: the job had ended, and is due because something else has changed."""
    paths = [Path(path) for path in outputs]
    return all(path.exists() and path.stat().st_mtime >= log.stat().st_mtime - 1 for path in paths)


def _descendants(holder: Holder) -> list[tuple[str, psutil.Process]]:
    """What runs for a Snakemake, with its command line."""
    processes = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(holder.process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                processes.append((" ".join(process.cmdline()), process))
    return processes


def _failed_logs() -> set[str]:
    """Logs of the jobs that failed in Snakemake's last run here; what only planned or reported is none."""
    runs = sorted(MESSAGES.glob("*.snakemake.log"), reverse=True) if MESSAGES.is_dir() else []
    texts = (_text_of(run) for run in runs)
    text = next((text for text in texts if _EXECUTES in text), "")
    errors = re.findall(r"^Error in rule .*\n((?: +.*\n)*)", text, re.MULTILINE)
    lines = [line for error in errors for line in error.splitlines() if line.strip().startswith("log:")]
    words = [re.sub(r"\(check log file.*", "", line.partition("log:")[2]) for line in lines]
    return {path.strip() for each in words for path in each.split(",")}


def _text_of(path: Path) -> str:
    """What a file holds; nothing if it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def last_lines(log: Path, count: int) -> list[str]:
    """The end of a log as a screen would show it: of progress bars, which write over themselves, the last state."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    plain = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line) for line in lines]
    return [line for line in plain if line][-count:]
