"""Requests of the jobs that evaluate or measure a model in this project's own ways."""

from __future__ import annotations

from dataclasses import replace

from longgen.cluster.assumptions import GPU_PROCESS_BYTES, PROCESS_BYTES, REDUCTION_FACTOR, START_SECONDS
from longgen.cluster.generation import answers_seconds, generation_request
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.config import DuoAttentionSettings, SetupSettings, require_part
from longgen.planner.inference import decode_seconds, prefill_seconds
from longgen.planner.model import VALUE_BYTES, Model
from longgen.planner.training import plan_training
from longgen.planner.training_memory import state_bytes

# Tokens of the longest answer of the retrieval tasks, bytes that they are: four values.
RETRIEVED_TOKENS = 24


def evaluate(job: ClusterJob) -> JobRequest:
    """Retrieval tasks and perplexity of a variant."""
    settings = require_part(job.experiment.evaluation, "evaluation")
    samples = sum(settings.samples_per_cell if task == "needle" else settings.task_samples for task in settings.tasks)
    prompts = dict.fromkeys(settings.lengths, samples * len(settings.depths))
    longest = max(settings.lengths)
    device, dtype = settings.device, settings.dtype
    perplexity = settings.perplexity_documents * forward_seconds(job, longest, device, dtype)
    seconds = answers_seconds(job, prompts, device, dtype, RETRIEVED_TOKENS, settings.batch_size) + perplexity
    return generation_request(job, seconds, longest, device, dtype, settings.batch_size)


def reduce_kv(job: ClusterJob) -> JobRequest:
    """The retrieval tasks for the full model, with every reduction of its KV cache."""
    settings = require_part(job.experiment.evaluation, "evaluation")
    reduction = require_part(settings.kv_reduction, "evaluation.kv_reduction")
    full = ClusterJob(job.experiment, job.setup, job.variants)  # the wildcard names the budget
    counts = [reduction.samples_per_cell if task == "needle" else settings.task_samples for task in reduction.tasks]
    lengths = reduction.lengths or [job.experiment.extension.max_length]
    prompts = dict.fromkeys(lengths, sum(counts) * len(settings.depths) * len(reduction.methods))
    device, dtype = settings.device, settings.dtype
    seconds = REDUCTION_FACTOR * answers_seconds(full, prompts, device, dtype, RETRIEVED_TOKENS, settings.batch_size)
    return generation_request(full, seconds, max(lengths), device, dtype, settings.batch_size)


def gates(job: ClusterJob) -> JobRequest:
    """DuoAttention's gates of a model of bytes."""
    evaluation = require_part(job.experiment.evaluation, "evaluation")
    reduction = require_part(evaluation.kv_reduction, "evaluation.kv_reduction")
    return gates_request(job, reduction.duo_attention, evaluation.device, evaluation.dtype)


def profile(job: ClusterJob) -> JobRequest:
    """Prefill, decoding and training steps of all variants, in turns."""
    settings = require_part(job.experiment.profiling, "profiling")
    device, dtype, shape = settings.device, settings.dtype, job.shape
    on_gpu, rates = device == "cuda", job.rates(device, dtype, settings.threads)
    seconds, memory = 0.0, 0
    for name in job.variants:
        variant = job.experiment.variant(name)
        model = Model(shape, variant.hybrid)
        memory += VALUE_BYTES[dtype] * shape.parameters
        for length in settings.lengths:
            decoding = settings.decode_tokens * decode_seconds(model, length, rates)
            seconds += prefill_seconds(model, length, rates) + decoding
        seconds += sum(model.training_flops(length) / rates.flops for length in settings.training_lengths)
    full, longest = job.experiment.variant("full"), max(settings.training_lengths)
    step = plan_training(Model(shape, full.hybrid), longest, 1, job.experiment.extension, SetupSettings(), 1)
    rounds = 1 + settings.repeats  # one warms up
    return JobRequest(
        seconds=START_SECONDS + rounds * seconds,
        memory=GPU_PROCESS_BYTES if on_gpu else PROCESS_BYTES + memory + step.memory_bytes,
        cpus=max(settings.threads, job.cpus(device)) if on_gpu else settings.threads,
        gpus=int(on_gpu),
        gpu_memory=memory + step.memory_bytes if on_gpu else 0,
        exclusive=True,
    )


def forward_seconds(job: ClusterJob, length: int, device: str, dtype: str) -> float:
    """Seconds of reading a row with the logits of all its tokens."""
    variant, rates = job.variant, job.rates(device, dtype)
    return Model(job.shape, variant.hybrid).training_flops(length) / 3 / rates.flops


def gates_request(job: ClusterJob, settings: DuoAttentionSettings, device: str, dtype: str) -> JobRequest:
    """The request of learning gates: two forward passes, and a backward pass through weights that stay as they are.

    Everything that the layers save is in memory; it is not recomputed.
    """
    full, rates, extension = job.experiment.variant("full"), job.rates(device, dtype), job.experiment.extension
    length, rows = settings.length or extension.max_length, settings.batch_size
    model = Model(job.shape, full.hybrid)
    seconds = settings.steps * model.training_flops(length, rows, recompute=True) / rates.flops
    request = generation_request(job, seconds, length, device, dtype, rows)
    step = plan_training(model, length, rows, extension, SetupSettings(), 1)
    activations = step.memory_bytes - sum(state_bytes(step.job).values())
    part = "gpu_memory" if device == "cuda" else "memory"
    return replace(request, **{part: getattr(request, part) + activations})
