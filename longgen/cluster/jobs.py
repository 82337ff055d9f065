"""What each job that the workflow submits requests of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from longgen.cluster import benchmarks, data, training
from longgen.cluster.assumptions import GPU_PROCESS_BYTES, PROCESS_BYTES, START_SECONDS
from longgen.cluster.generation import answers_seconds, generation_request
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.config import Experiment, SetupSettings, require_part
from longgen.layout import PROBED, PROBED_HEADS, count_full_layers
from longgen.model import VALUE_BYTES, Model
from longgen.planner.inference import decode_seconds, prefill_seconds
from longgen.planner.training import plan_training
from longgen.probed_layout import Units
from longgen.probing.search import default_placements, most_forward_passes


def _probe(job: ClusterJob) -> JobRequest:
    """Which layers, or with wildcard ``heads`` which KV heads, of the base model need full attention."""
    settings = require_part(job.experiment.probe, "probe")
    by_heads = PROBED + job.wildcards["heads"] == PROBED_HEADS
    units = Units(job.shape.num_layers, job.shape.num_kv_heads, by_heads)
    full_layers = count_full_layers(units.num_layers, settings.full_layers)
    passes = most_forward_passes(units, default_placements(by_heads), full_layers, settings.candidates)
    prompts = {settings.length: settings.prompts * passes}
    seconds = answers_seconds(job, prompts, settings.device, settings.dtype, answer_tokens=0)
    return generation_request(job, seconds, settings.length, settings.device, settings.dtype)


def _profile(job: ClusterJob) -> JobRequest:
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


# rule -> what its job requests, in the order of a run; all rules but the workflow's local ones, which take seconds
REQUESTS: dict[str, Callable[[ClusterJob], JobRequest]] = {
    "corpus": data.corpus,
    "pack": data.pack,
    "rows": data.rows,
    "base": training.base,
    "probe": _probe,
    "convert": data.convert,
    "untrained": data.convert,
    "extend": training.extend,
    "prompts": benchmarks.prompts,
    "answer": benchmarks.answer,
    "gates": benchmarks.gates,
    "answer_reduced": benchmarks.answer_reduced,
    "perplexity": benchmarks.perplexity,
    "short_context": benchmarks.short_context,
    "profile": _profile,
}
WildcardPairs = tuple[tuple[str, str], ...]


def job_request(
    rule: str,
    experiment: Experiment,
    setup: SetupSettings,
    variants: Sequence[str],
    wildcards: Mapping[str, str] | None = None,
) -> JobRequest:
    """What a job of a rule in `REQUESTS` requests.

    Args:
        rule: its name.
        experiment: the configuration.
        setup: the processes that train.
        variants: of this invocation.
        wildcards: of the job, by name.

    Raises:
        ConfigError: the set-up cannot share out a stage's work, or the configuration has no part for this rule.
    """
    return REQUESTS[rule](ClusterJob(experiment, setup, tuple(variants), dict(wildcards or {})))


def request_wildcards(wildcards: Mapping[str, str]) -> WildcardPairs:
    """The wildcards on which a job's request depends: jobs that differ only in their shard share one request."""
    return tuple(pair for pair in wildcards.items() if pair[0] != "shard")
