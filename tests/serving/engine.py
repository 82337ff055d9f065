"""Small hybrids with random weights, what our own `generate` says to them, and an engine whose blocks are watched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# In this process, where its blocks can be looked at; set before vLLM is imported.
os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

from longgen.layout import Layout, make_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.serving.blocks import blocks_held
from longgen.serving.vllm.cache import SparsePatternSpec

LAYERS, VOCABULARY, LONGEST = 6, 384, 1024
POISON = 1e4  # finite: what a kernel masks may be multiplied by 0
PATTERN = SparsePattern(block_size=32, sink_blocks=1, local_blocks=2)
STRIDE = SparsePattern(block_size=32, sink_blocks=1, local_blocks=2, stride=4)
CHUNK = 45  # tokens of a step: no multiple of a block


def make_hybrid(
    folder: Path, family: str = "llama", pattern: SparsePattern = PATTERN, layout: Layout | None = None, **changes: Any
) -> Path:
    """A hybrid with weights so large that what a query sees decides what it says."""
    base = CONFIG_MAPPING[family](
        num_hidden_layers=LAYERS,
        hidden_size=128,
        intermediate_size=192,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=VOCABULARY,
        max_position_embeddings=LONGEST,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **({"sliding_window": None} if family == "mistral" else {}),
    )
    config = longgen_config(base, layout or make_layout(LAYERS, "1/3"), pattern, **changes)
    torch.manual_seed(5)
    longgen_classes(family)[1](config).to(torch.float32).save_pretrained(folder)
    return folder


def prompts_of(lengths: list[int], seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


class Said(NamedTuple):
    """A continuation: its tokens, and the log probability of each."""

    tokens: list[int]
    logprobs: list[float]


def by_generate(folder: Path, prompts: list[list[int]], new_tokens: int) -> list[Said]:
    """What our model says to each prompt alone."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    answers = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new_tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = out.sequences[0, len(prompt) :].tolist()
        rows = [row[0].log_softmax(-1) for row in out.logits]
        answers.append(Said(tokens, [float(row[token]) for row, token in zip(rows, tokens, strict=True)]))
    return answers


@contextmanager
def engine(folder: Path, **options: Any) -> Iterator[LLM]:
    """vLLM on a folder, in float32, with steps of `CHUNK` tokens."""
    defaults = {"max_num_batched_tokens": CHUNK, "max_num_seqs": 8, "enable_prefix_caching": False}
    defaults |= {"dtype": "float32", "enforce_eager": True, "skip_tokenizer_init": True, "generation_config": "vllm"}
    try:
        llm = LLM(str(folder), **defaults | {"num_gpu_blocks_override": 400, "kv_cache_memory_bytes": 2**30} | options)
    except Exception:
        cleanup_dist_env_and_memory()  # of an engine that was refused halfway
        raise
    try:
        yield llm
    finally:
        shut_down(llm)


def shut_down(llm: LLM) -> None:
    """Now: an engine that is collected later would take the next one's groups of processes with it."""
    llm.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()


def by_engine(llm: LLM, prompts: list[list[int]], new_tokens: int) -> list[Said]:
    """What the engine says to all prompts, given at once."""
    sampling = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True, logprobs=0, detokenize=False)
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
    said = []
    for output in outputs:
        answer = output.outputs[0]
        rows = zip(answer.logprobs, answer.token_ids, strict=True)
        said.append(Said(list(answer.token_ids), [row[token].logprob for row, token in rows]))
    return said


class Watch:
    """Looks at every step of an engine, after it was scheduled and before it is computed.

    Attributes:
        steps: how many there were.
        preemptions: how many requests were preempted.
        reused: blocks that a request had lost when another got them, while it was still running.
        most_running: requests of one step, at most.
        cached_tokens: of prompts, that were in the prefix cache.
    """

    def __init__(self, llm: LLM, poison: bool = True) -> None:
        core = llm.llm_engine.engine_core.engine_core
        self.scheduler, self.poison = core.scheduler, poison
        self.config = llm.llm_engine.vllm_config
        self.steps = self.preemptions = self.reused = self.most_running = self.cached_tokens = 0
        self._lost: dict[int, str] = {}  # block -> request that lost it
        self._held: dict[str, set[int]] = {}
        self._schedule = self.scheduler.schedule
        self.scheduler.schedule = self.schedule

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        output = self._schedule(*args, **kwargs)
        self.steps += 1
        self.preemptions += len(output.preempted_req_ids or ())
        self.cached_tokens += sum(request.num_computed_tokens for request in output.scheduled_new_reqs)
        self.most_running = max(self.most_running, len(output.num_scheduled_tokens))
        coordinator = self.scheduler.kv_cache_manager.coordinator
        for request_id, new in output.num_scheduled_tokens.items():
            seen = self.scheduler.requests[request_id].num_computed_tokens - new
            for manager in coordinator.single_type_managers:
                blocks = [block for block in manager.req_to_blocks[request_id] if not block.is_null]
                spec = manager.kv_cache_spec
                if isinstance(spec, SparsePatternSpec):
                    expected = blocks_held(spec.pattern, spec.block_size, seen, new)
                else:
                    expected = -(-(seen + new) // spec.block_size)
                assert len(blocks) == expected, f"{len(blocks)} blocks of {spec} after {seen} tokens and {new} new ones"
        self._follow_blocks(output, coordinator)
        if self.poison:
            self._poison_free_blocks()
        return output

    def _follow_blocks(self, output: Any, coordinator: Any) -> None:
        for request_id in output.num_scheduled_tokens:
            held = {
                block.block_id
                for manager in coordinator.single_type_managers
                for block in manager.req_to_blocks[request_id]
                if not block.is_null
            }
            self._lost |= dict.fromkeys(self._held.get(request_id, set()) - held, request_id)
            for block in held:
                loser = self._lost.pop(block, request_id)
                self.reused += loser != request_id and loser in self.scheduler.requests
            self._held[request_id] = held

    def _poison_free_blocks(self) -> None:
        pool = self.scheduler.kv_cache_manager.block_pool
        free = [pool.null_block.block_id, *(block.block_id for block in pool.free_block_queue.get_all_free_blocks())]
        for layer in self.config.compilation_config.static_forward_context.values():
            layer.kv_cache[free] = POISON
