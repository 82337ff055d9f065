"""Time and memory of a model that reads prompts and answers them, by the planner."""

from __future__ import annotations

from collections.abc import Mapping

from longgen.cluster.assumptions import ANSWER_TOKENS, GPU_PROCESS_BYTES, LAYER_SECONDS, PROCESS_BYTES
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.model import VALUE_BYTES, Model
from longgen.planner.inference import RESERVE, decode_seconds, inference_memory, prefill_seconds

# `inference_memory` counts bytes of 16-bit values.
HALF_BYTES = 2


def answers_seconds(
    job: ClusterJob,
    prompts: Mapping[int, int],
    device: str,
    dtype: str,
    answer_tokens: int = ANSWER_TOKENS,
    batch: int = 1,
) -> float:
    """Seconds of answering prompts.

    Args:
        job: the job, whose variant answers.
        prompts: how many by length in tokens.
        device: that computes.
        dtype: that computes.
        answer_tokens: of every answer.
        batch: prompts at a time, which share the time to start kernels and, to be careful, nothing else.
    """
    model = Model(job.shape, job.variant.hybrid)
    rates, start = job.rates(device, dtype), LAYER_SECONDS * job.shape.num_layers / batch
    return sum(
        count
        * (
            start
            + prefill_seconds(model, length, rates)
            + answer_tokens * (start + decode_seconds(model, length, rates))
        )
        for length, count in prompts.items()
    )


def generation_request(
    job: ClusterJob, seconds: float, length: int, device: str, dtype: str, batch: int = 1
) -> JobRequest:
    """The request of a job that loads the model and works on it for some seconds.

    Args:
        job: the job, whose variant is loaded.
        seconds: of its work, on that device.
        length: tokens of the longest row.
        device: that computes.
        dtype: of weights, activations and KV cache.
        batch: rows at a time.
    """
    model = Model(job.shape, job.variant.hybrid)
    on_gpu = device == "cuda"
    parts = inference_memory(model, length, batch)
    reserve = parts.pop(RESERVE)  # of a GPU
    # float16 is not a training dtype, and as long as bfloat16
    memory = sum(parts.values()) * VALUE_BYTES.get(dtype, HALF_BYTES) // HALF_BYTES + reserve * on_gpu
    return JobRequest(
        seconds=job.loading_seconds + seconds,
        memory=GPU_PROCESS_BYTES + job.model_bytes if on_gpu else PROCESS_BYTES + memory,
        cpus=job.cpus(device),
        gpus=int(on_gpu),
        gpu_memory=memory if on_gpu else 0,
    )
