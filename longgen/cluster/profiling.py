"""The request of the job that measures speed and memory."""

from __future__ import annotations

from longgen.cluster.assumptions import GPU_PROCESS_BYTES, PROCESS_BYTES, START_SECONDS
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.config import SetupSettings, require_part
from longgen.model import VALUE_BYTES, Model
from longgen.planner.inference import decode_seconds, prefill_seconds
from longgen.planner.training import plan_training


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
