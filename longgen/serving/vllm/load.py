"""A load of requests, all given at once, through an engine whose KV cache has a fixed size."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# The engine in this process, where its blocks are counted; threads are bound by whoever started it.
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ENVIRONMENT |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True)
class Load:
    """Requests of random tokens.

    Attributes:
        length: tokens of a prompt.
        new_tokens: that each is answered with, whatever they are.
        requests: how many, all there from the beginning.
        kv_memory: bytes of the KV cache of the engine.
        chunk: tokens of a step, at most.
        dtype: of weights, activations and cache.
    """

    length: int
    new_tokens: int
    requests: int
    kv_memory: int
    chunk: int
    dtype: str


class LoadMeasurement(NamedTuple):
    """What a load took.

    Attributes:
        sequences: requests of that length that fit at once, as the engine counts when it starts.
        running: requests that had KV cache at once, at most.
        preemptions: how often a request lost it.
        kv_bytes: of one request before its last step, in whole blocks of all layers.
        seconds: from the first request to the last answer.
        first_tokens: seconds until the first token of each request.
    """

    sequences: float
    running: int
    preemptions: int
    kv_bytes: int
    seconds: float
    first_tokens: list[float]


def serve(folder: Path, load: Load, block_size: int, changes: dict[str, Any]) -> LoadMeasurement:
    """Run ``load`` through vLLM, after a short request that warms up.

    Args:
        folder: of the model.
        load: what is asked.
        block_size: of the engine, in tokens.
        changes: keys of the model's config to replace.
    """
    os.environ.update(ENVIRONMENT)
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    llm = LLM(
        str(folder),
        hf_overrides=changes,
        block_size=block_size,
        dtype=load.dtype,
        max_model_len=load.length + load.new_tokens,
        max_num_seqs=load.requests,
        max_num_batched_tokens=load.chunk,
        kv_cache_memory_bytes=load.kv_memory,
        enable_prefix_caching=False,
        enforce_eager=True,
        skip_tokenizer_init=True,
        generation_config="vllm",
    )
    try:
        answer = {"temperature": 0, "max_tokens": load.new_tokens, "ignore_eos": True, "detokenize": False}
        vocabulary = llm.llm_engine.model_config.get_vocab_size()
        prompts = np.random.default_rng(0).integers(0, vocabulary, (load.requests, load.length)).tolist()
        llm.generate([{"prompt_token_ids": prompts[0][:64]}], SamplingParams(**answer), use_tqdm=False)
        return _timed(llm, prompts, SamplingParams(**answer))  # `generate` changes its own: it tells nothing underway
    finally:
        llm.llm_engine.engine_core.shutdown()  # now: an engine that is collected later would take the next one's groups
        del llm
        cleanup_dist_env_and_memory()


def _timed(llm: Any, prompts: list[list[int]], sampling: Any) -> LoadMeasurement:
    engine = llm.llm_engine
    scheduler = engine.engine_core.engine_core.scheduler
    config = scheduler.kv_cache_config
    block_bytes = config.kv_cache_tensors[0].size // config.num_blocks
    running = preemptions = most_blocks = 0
    schedule = scheduler.schedule
    first_tokens: dict[str, float] = {}

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal running, preemptions, most_blocks
        output = schedule(*args, **kwargs)
        running = max(running, len(scheduler.running))
        preemptions += len(output.preempted_req_ids or ())
        for request in scheduler.running:
            # a step of decoding: prefill holds the blocks of its chunk besides
            if output.num_scheduled_tokens.get(request.request_id) == 1:
                groups = scheduler.kv_cache_manager.coordinator.get_blocks(request.request_id)
                most_blocks = max(most_blocks, sum(not block.is_null for blocks in groups for block in blocks))
        return output

    scheduler.schedule = watched
    try:
        started = time.perf_counter()
        for number, prompt in enumerate(prompts):
            engine.add_request(str(number), {"prompt_token_ids": prompt}, sampling)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.outputs[0].token_ids:
                    first_tokens.setdefault(output.request_id, time.perf_counter() - started)
        seconds = time.perf_counter() - started
    finally:
        scheduler.schedule = schedule
    sequences = engine.vllm_config.cache_config.kv_cache_max_concurrency
    return LoadMeasurement(
        sequences, running, preemptions, most_blocks * block_bytes, seconds, list(first_tokens.values())
    )
