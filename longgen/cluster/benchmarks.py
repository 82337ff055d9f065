"""Requests of the jobs of benchmarks, and how many prompts these have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from longgen.cluster.assumptions import (
    LAYER_SECONDS,
    NATURAL_SAMPLES,
    PROCESS_BYTES,
    PROMPT_RATE,
    REDUCTION_FACTOR,
    SHORT_CONTEXT_CHOICES,
    SHORT_CONTEXT_SAMPLES,
    SHORT_CONTEXT_TOKENS,
    START_SECONDS,
)
from longgen.cluster.evaluation import forward_seconds, gates_request
from longgen.cluster.generation import answers_seconds, generation_request
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.config import BenchmarksSettings, Experiment, SuiteSettings, require_part
from longgen.evaluation.benchmarks import benchmark
from longgen.names import NEEDLE_DEPTHS, SHORT_CONTEXT_TASKS


def prompts(job: ClusterJob) -> JobRequest:
    """Prompts of a suite."""
    suite = job.wildcards["suite"]
    counts = suite_prompts(suite, _settings(job).suites[suite], job.experiment)
    tokens = sum(length * count for length, count in counts.items())
    return JobRequest(seconds=START_SECONDS + tokens / PROMPT_RATE, memory=2 * PROCESS_BYTES, cpus=job.cpus("cpu"))


def answer(job: ClusterJob) -> JobRequest:
    """A shard of a variant's answers to all prompts."""
    settings = _settings(job)
    counts = all_prompts(job.experiment)
    seconds = answers_seconds(job, counts, settings.device, settings.dtype) / settings.shards
    return generation_request(job, seconds, max(counts), settings.device, settings.dtype)


def answer_reduced(job: ClusterJob) -> JobRequest:
    """The same for the full model with a reduced KV cache, of which all is there while a prompt is read."""
    settings = _settings(job)
    counts = all_prompts(job.experiment, settings.reduced_suites)
    seconds = REDUCTION_FACTOR * answers_seconds(job, counts, settings.device, settings.dtype) / settings.shards
    return generation_request(job, seconds, max(counts), settings.device, settings.dtype)


def passkey_gates(job: ClusterJob) -> JobRequest:
    """DuoAttention's gates of a model of language."""
    settings = _settings(job)
    reduction = require_part(settings.kv_reduction, "benchmarks.kv_reduction")
    return gates_request(job, reduction.duo_attention, settings.device, settings.dtype)


def long_text(job: ClusterJob) -> JobRequest:
    """Perplexity of a variant on long text."""
    settings = _settings(job)
    text = require_part(settings.long_text, "benchmarks.long_text")
    seconds = text.documents * forward_seconds(job, text.length, settings.device, settings.dtype)
    return generation_request(job, seconds, text.length, settings.device, settings.dtype)


def short_context(job: ClusterJob) -> JobRequest:
    """Short contexts for a variant: of every answer that a question offers, how likely it is."""
    settings = _settings(job)
    short = require_part(settings.short_context, "benchmarks.short_context")
    tasks = len(SHORT_CONTEXT_TASKS) if short.tasks is None else len(short.tasks)
    samples = min(SHORT_CONTEXT_SAMPLES, short.limit or SHORT_CONTEXT_SAMPLES)
    row = forward_seconds(job, SHORT_CONTEXT_TOKENS, settings.device, settings.dtype)
    start = LAYER_SECONDS * job.shape.num_layers / short.batch_size
    seconds = tasks * samples * SHORT_CONTEXT_CHOICES * (row + start)
    length, rows = SHORT_CONTEXT_TOKENS, short.batch_size
    return generation_request(job, seconds, length, settings.device, settings.dtype, rows)


def all_prompts(experiment: Experiment, suites: Collection[str] | None = None) -> Counter[int]:
    """How many prompts of each length, in tokens, some ``suites`` of an experiment have; None: all of them."""
    counts: Counter[int] = Counter()
    for name, suite in require_part(experiment.benchmarks, "benchmarks").suites.items():
        if suites is None or name in suites:
            counts += suite_prompts(name, suite, experiment)
    return counts


def suite_prompts(name: str, suite: SuiteSettings, experiment: Experiment) -> Counter[int]:
    """How many prompts of each length a suite has. What has its natural length counts as a longest row."""
    longest = experiment.extension.max_length
    tasks = len(suite.tasks or benchmark(name).tasks)
    samples = min(suite.samples, NATURAL_SAMPLES.get(name, suite.samples))
    if name == "needle":
        samples *= len(suite.depths or NEEDLE_DEPTHS)
    # BABILong's length 0 is a story alone, which is shorter than this
    return Counter({max(length, 1024): tasks * samples for length in suite.lengths or [longest]})


def _settings(job: ClusterJob) -> BenchmarksSettings:
    return require_part(job.experiment.benchmarks, "benchmarks")
