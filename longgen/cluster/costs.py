"""What a whole run costs, predicted: jobs and hours by rule, what it stores, and how long it takes on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longgen.cluster.assumptions import ANSWER_TOKENS, GENERATED_TOKEN_BYTES, START_SECONDS, TEXT_BYTES
from longgen.cluster.benchmarks import all_prompts
from longgen.cluster.data import pack_settings, read_tokens, stage_tokens
from longgen.cluster.job import ClusterJob
from longgen.cluster.jobs import REQUESTS, WildcardPairs, job_request, request_wildcards
from longgen.cluster.request import JobRequest
from longgen.cluster.training import checkpoint_bytes, training_plans
from longgen.config import Experiment, SetupSettings
from longgen.gpus import gpu_named
from longgen.workflow.graph import Job

# Of a tokenizer with less than 65,536 tokens: docs/long-data.md.
PACKED_TOKEN_BYTES = 2


@dataclass(frozen=True)
class RuleCost:
    """All jobs of a rule; predictions, without the margins of requests.

    Attributes:
        rule: its name.
        jobs: how many.
        gpus: of a job, over all its nodes.
        nodes: of a job.
        cpus: of a job, over all its nodes.
        hours: of a job, on average.
        gpu_memory: bytes on each GPU, for the job that needs most; 0 without GPUs.
        fits: whether that is there on the cluster's GPU.
        memory: bytes of main memory on each node, for the job that needs most.
    """

    rule: str
    jobs: int
    gpus: int
    nodes: int
    cpus: int
    hours: float
    gpu_memory: int
    fits: bool
    memory: int

    @property
    def gpu_hours(self) -> float:
        """Of all jobs."""
        return self.jobs * self.gpus * self.hours

    @property
    def cpu_hours(self) -> float:
        """Of all jobs, those with GPUs included."""
        return self.jobs * self.cpus * self.hours


def run_costs(
    experiment: Experiment, setup: SetupSettings, variants: Sequence[str], jobs: Sequence[Job]
) -> list[RuleCost]:
    """The jobs that a run submits, by rule, in the order in which rules run.

    Args:
        experiment: the configuration.
        setup: the processes that train.
        variants: of the run.
        jobs: of the run (`longgen.workflow.workflow_jobs`); what runs where Snakemake does is not counted.

    Raises:
        ConfigError: the set-up cannot share out a stage's work.
    """
    requests: dict[tuple[str, WildcardPairs], JobRequest] = {}
    by_rule: dict[str, list[JobRequest]] = {rule: [] for rule in REQUESTS}
    for job in jobs:
        if job.rule in by_rule:
            key = (job.rule, request_wildcards(job.wildcards))
            if key not in requests:
                requests[key] = job_request(job.rule, experiment, setup, variants, dict(key[1]))
            by_rule[job.rule].append(requests[key])
    return [_rule_cost(rule, rule_requests, experiment) for rule, rule_requests in by_rule.items() if rule_requests]


def run_storage(
    experiment: Experiment, setup: SetupSettings, variants: Sequence[str], jobs: Sequence[Job]
) -> dict[str, int]:
    """Bytes that a run stores at most, by what they are; results and figures are not worth counting.

    As if all variants were trained at the same time: when one is done, its converted model and checkpoints are deleted.

    Raises:
        ConfigError: as `run_costs`.
    """
    any_job = ClusterJob(experiment, setup, tuple(variants))
    sizes: dict[str, int] = {}
    if experiment.extension.packed:
        packing = pack_settings(experiment)
        sizes["packed rows"] = PACKED_TOKEN_BYTES * packing.tokens
        sizes["documents, while they are packed"] = PACKED_TOKEN_BYTES * read_tokens(packing)
    stages = [stage for stage, settings in experiment.stages.items() if settings.packed is None]
    sizes["generated rows"] = GENERATED_TOKEN_BYTES * sum(stage_tokens(experiment, stage) for stage in stages)
    num_models = len(variants) + (experiment.base is not None)
    num_trained = sum(experiment.variant(name).trained for name in variants)
    sizes["converted models, until they are trained"] = num_trained * any_job.model_bytes
    sizes["models"] = num_models * any_job.model_bytes
    # while a checkpoint is written those before it stay
    num_checkpoints = 1 + experiment.extension.keep_checkpoints
    checkpoint = checkpoint_bytes(training_plans(any_job, "extension")[0])
    sizes["checkpoints, until they are trained"] = num_trained * num_checkpoints * checkpoint
    if experiment.benchmarks is not None:
        prompts = all_prompts(experiment)
        sizes["prompts"] = TEXT_BYTES * sum(length * count for length, count in prompts.items())
        settings, rules = experiment.benchmarks, [job.rule for job in jobs]
        methods = len(settings.kv_reduction.methods) if settings.kv_reduction else 0
        models_asked = rules.count("answer") // settings.shards
        models_asked += methods * rules.count("answer_reduced") // settings.reduced_shards
        sizes["answers"] = TEXT_BYTES * ANSWER_TOKENS * prompts.total() * models_asked
    return {name: count for name, count in sizes.items() if count}


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


def _rule_cost(rule: str, requests: list[JobRequest], experiment: Experiment) -> RuleCost:
    largest = max(requests, key=lambda request: request.gpu_memory)
    return RuleCost(
        rule=rule,
        jobs=len(requests),
        gpus=largest.gpus * largest.nodes,
        nodes=largest.nodes,
        cpus=largest.cpus * (largest.tasks or 1),
        hours=sum(request.seconds for request in requests) / len(requests) / 3600,
        gpu_memory=largest.gpu_memory,
        fits=largest.gpu_memory <= gpu_named(experiment.cluster.gpu).memory,
        memory=max(request.memory for request in requests),
    )
