"""How long the jobs of a run take on a machine: predictions of single jobs, scheduled; never measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longgen.cluster import REQUESTS, job_request, request_wildcards
from longgen.cluster.assumptions import START_SECONDS
from longgen.config import Experiment, SetupSettings
from longgen.workflow.graph import Job


def expected_seconds(
    jobs: Sequence[Job], experiment: Experiment, setup: SetupSettings, variants: Sequence[str], start: float
) -> dict[str, float]:
    """Seconds of every job, by identity.

    Args:
        jobs: of the run.
        experiment: its configuration, with the rates of this machine's processors as those of the cluster.
        setup: the processes that train.
        variants: of the run.
        start: seconds that a process needs to start here, in place of what is assumed of a cluster. Jobs that no
            request describes, which are the short ones, take no more.

    Raises:
        ConfigError: the set-up cannot share out a stage's work.
    """
    seconds = {}
    for job in jobs:
        work = 0.0
        if job.rule in REQUESTS:
            pairs = dict(request_wildcards(job.wildcards))
            work = max(0.0, job_request(job.rule, experiment, setup, variants, pairs).seconds - START_SECONDS)
        seconds[job.identity] = start + work
    return seconds


def run_seconds(jobs: Sequence[Job], seconds: Mapping[str, float], cores: int) -> float:
    """How long jobs take together on so many processors, each begun as soon as what it needs is there.

    Args:
        jobs: each after those that it needs; what is needed and not among them is there.
        seconds: of every job, by identity.
        cores: processors.
    """
    ends: dict[str, float] = {}
    free = [0.0] * cores  # when each processor is
    for job in jobs:
        ready = max((ends[name] for name in job.needs if name in ends), default=0.0)
        free.sort()
        count = min(job.threads, cores)
        begin = max(ready, free[count - 1])
        ends[job.identity] = begin + seconds[job.identity]
        free[:count] = [ends[job.identity]] * count
    return max(ends.values(), default=0.0)
