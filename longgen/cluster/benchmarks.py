"""Requests of the jobs of benchmarks, and how many prompts these have."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from longgen.cluster.assumptions import (
    ANSWER_TOKENS,
    LAYER_SECONDS,
    NATURAL_SAMPLES,
    PROCESS_BYTES,
    PROMPT_RATE,
    RECALL_RATE,
    RECALLED_TOKENS,
    REDUCTION_FACTOR,
    SHORT_CONTEXT_CHOICES,
    SHORT_CONTEXT_SAMPLES,
    SHORT_CONTEXT_TOKENS,
    START_SECONDS,
)
from longgen.cluster.generation import answers_seconds, generation_request
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.config import (
    BenchmarksSettings,
    Experiment,
    KvReductionSettings,
    SetupSettings,
    SuiteSettings,
    require_part,
)
from longgen.evaluation.benchmarks import WITH_DEPTHS, benchmark
from longgen.model import Model
from longgen.names import NEEDLE_DEPTHS, SHORT_CONTEXT_TASKS
from longgen.planner.training import plan_training
from longgen.planner.training_memory import state_bytes


def prompts(job: ClusterJob) -> JobRequest:
    """Prompts of a suite."""
    suite = job.wildcards["suite"]
    counts = suite_prompts(suite, _settings(job).suites[suite], job.experiment)
    tokens = sum(length * count for length, count in counts.items())
    rate = RECALL_RATE if suite == "recall" else PROMPT_RATE
    return JobRequest(seconds=START_SECONDS + tokens / rate, memory=2 * PROCESS_BYTES, cpus=job.cpus("cpu"))


def answer(job: ClusterJob) -> JobRequest:
    """A shard of a variant's answers to all prompts; where there is but one, also perplexity, in the same process."""
    settings, request = _settings(job), _answers(job, list(_settings(job).suites))
    if settings.shards > 1 or settings.perplexity is None:
        return request
    other = perplexity(job)
    return replace(
        request,
        seconds=request.seconds + other.seconds - job.loading_seconds,
        memory=max(request.memory, other.memory),
        gpu_memory=max(request.gpu_memory, other.gpu_memory),
    )


def answer_reduced(job: ClusterJob) -> JobRequest:
    """The same for the full model, by every reduction of its KV cache, of which all is there while a prompt is read."""
    reduction = _reduction(job)
    full = ClusterJob(job.experiment, job.setup, job.variants)  # the wildcard names the budget
    return _answers(full, _settings(job).reduced_suites, reduction)


def _answers(job: ClusterJob, suites: list[str], reduction: KvReductionSettings | None = None) -> JobRequest:
    settings, seconds, longest, most = _settings(job), 0.0, 1, 1
    for name in suites:
        counts = suite_prompts(name, settings.suites[name], job.experiment, reduction)
        tokens = RECALLED_TOKENS if name == "recall" else ANSWER_TOKENS
        for length, count in counts.items():
            batch = max(1, settings.batch_tokens // length)
            seconds += answers_seconds(job, {length: count}, settings.device, settings.dtype, tokens, batch)
            longest, most = max(longest, length), max(most, batch * length)
    seconds *= REDUCTION_FACTOR * len(reduction.methods) if reduction else 1
    rows = max(1, most // longest)
    shards = settings.reduced_shards if reduction else settings.shards
    return generation_request(job, seconds / shards, longest, settings.device, settings.dtype, rows)


def gates(job: ClusterJob) -> JobRequest:
    """DuoAttention's gates: two forward passes, and a backward pass through weights that stay as they are.

    Everything that the layers save is in memory; it is not recomputed.
    """
    settings, learning = _settings(job), _reduction(job).duo_attention
    device, dtype, extension = settings.device, settings.dtype, job.experiment.extension
    full, rates = job.experiment.variant("full"), job.rates(device, dtype)
    length, rows = learning.length or extension.max_length, learning.batch_size
    model = Model(job.shape, full.hybrid)
    seconds = learning.steps * model.training_flops(length, rows, recompute=True) / rates.flops
    request = generation_request(job, seconds, length, device, dtype, rows)
    step = plan_training(model, length, rows, extension, SetupSettings(), 1)
    saved = step.memory_bytes - sum(state_bytes(step.job).values())
    part = "gpu_memory" if device == "cuda" else "memory"
    return replace(request, **{part: getattr(request, part) + saved})


def perplexity(job: ClusterJob) -> JobRequest:
    """Perplexity of a variant by position."""
    settings = _settings(job)
    text = require_part(settings.perplexity, "benchmarks.perplexity")
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


def forward_seconds(job: ClusterJob, length: int, device: str, dtype: str) -> float:
    """Seconds of reading a row with the logits of all its tokens."""
    variant, rates = job.variant, job.rates(device, dtype)
    return Model(job.shape, variant.hybrid).training_flops(length) / 3 / rates.flops


def all_prompts(experiment: Experiment) -> Counter[int]:
    """How many prompts of each length, in tokens, all suites of an experiment have."""
    suites = require_part(experiment.benchmarks, "benchmarks").suites
    return sum((suite_prompts(name, suite, experiment) for name, suite in suites.items()), Counter())


def suite_prompts(
    name: str, suite: SuiteSettings, experiment: Experiment, reduction: KvReductionSettings | None = None
) -> Counter[int]:
    """How many prompts of each length a suite has, or those of it that are answered with a reduced KV cache.

    What has its natural length counts as a longest row.
    """
    tasks = [*(suite.tasks or benchmark(name).tasks)]
    lengths = suite.lengths or [experiment.extension.max_length]
    if reduction is not None:
        tasks = [task for task in tasks if task in (reduction.tasks or tasks)]
        lengths = [length for length in lengths if length in (reduction.lengths or lengths)]
    samples = sum(
        suite.task_samples.get(task, min(suite.samples, NATURAL_SAMPLES.get(name, suite.samples))) for task in tasks
    )
    if name in WITH_DEPTHS:
        samples *= len(suite.depths or NEEDLE_DEPTHS)
    # BABILong's length 0 is a story alone, which is shorter than this
    least = 1 if name == "recall" else 1024
    return Counter({max(length, least): samples for length in lengths})


def _settings(job: ClusterJob) -> BenchmarksSettings:
    return require_part(job.experiment.benchmarks, "benchmarks")


def _reduction(job: ClusterJob) -> KvReductionSettings:
    return require_part(_settings(job).kv_reduction, "benchmarks.kv_reduction")
