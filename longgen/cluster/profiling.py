"""The request of the job that measures speed and memory."""

from __future__ import annotations

from longgen.cluster.asked import Asked
from longgen.cluster.assumptions import GPU_PROCESS_BYTES, PROCESS_BYTES, START_SECONDS
from longgen.cluster.request import JobRequest
from longgen.config import SetupSettings, needed
from longgen.planner.inference import decode_seconds, prefill_seconds
from longgen.planner.model import VALUE_BYTES, Model
from longgen.planner.training import plan_training


def profile(asked: Asked) -> JobRequest:
    """Prefill, decoding and training steps of all variants, in turns."""
    settings = needed(asked.experiment.profiling, "profiling")
    device, dtype, shape = settings.device, settings.dtype, asked.shape
    on_gpu, rates = device == "cuda", asked.rates(device, dtype, settings.threads)
    seconds, memory = 0.0, 0
    for name in asked.variants:
        variant = asked.experiment.variant(name)
        model = Model(shape, variant.hybrid)
        memory += VALUE_BYTES[dtype] * shape.parameters
        for length in settings.lengths:
            decoding = settings.decode_tokens * decode_seconds(model, length, rates)
            seconds += prefill_seconds(model, length, rates) + decoding
        seconds += sum(model.training_flops(length) / rates.flops for length in settings.training_lengths)
    full, longest = asked.experiment.variant("full"), max(settings.training_lengths)
    step = plan_training(Model(shape, full.hybrid), longest, 1, asked.experiment.extension, SetupSettings(), 1)
    rounds = 1 + settings.repeats  # one warms up
    return JobRequest(
        seconds=START_SECONDS + rounds * seconds,
        memory=GPU_PROCESS_BYTES if on_gpu else PROCESS_BYTES + memory + step.memory_bytes,
        cpus=max(settings.threads, asked.cpus(device)) if on_gpu else settings.threads,
        gpus=int(on_gpu),
        gpu_memory=memory + step.memory_bytes if on_gpu else 0,
        exclusive=True,
    )
