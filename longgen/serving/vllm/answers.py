"""Greedy answers by vLLM, in the place of `longgen.evaluation.runs.model.greedy`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from longgen.evaluation.runs.predict import Generate, GreedyAnswers, PromptBatch
from longgen.foreign import reading
from longgen.modeling.conversion.source import FolderSource, check_generation_config


def engine_greedy(folder: Path, dtype: str, **options: Any) -> tuple[Generate, Any]:
    """Greedy continuation of a model's prompts, all of a batch at once; and its tokenizer.

    As with transformers nothing of the model's own generation defaults counts but its end-of-text tokens.

    Args:
        folder: of the model.
        dtype: of weights, activations and cache.
        **options: more for vLLM's ``LLM``.

    Raises:
        ArtifactError: the model is damaged.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    from transformers import AutoTokenizer, GenerationConfig
    from vllm import LLM, SamplingParams

    otherwise = "`longgen train` or `longgen convert --overwrite` makes the model anew"
    check_generation_config(FolderSource(folder))
    with reading(folder, otherwise):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        has_defaults = (folder / "generation_config.json").is_file()
        own = GenerationConfig.from_pretrained(folder).eos_token_id if has_defaults else None
    llm = LLM(str(folder), dtype=dtype, skip_tokenizer_init=True, generation_config="vllm", **options)
    own_ends = own if isinstance(own, list) else [] if own is None else [own]

    def generate(batch: PromptBatch) -> GreedyAnswers:
        ends = [*own_ends, *batch.stop]
        sampling = SamplingParams(
            temperature=0,
            max_tokens=batch.max_new_tokens,
            min_tokens=batch.min_new_tokens,
            stop_token_ids=ends,
            ignore_eos=True,  # ends are told here, as those of the checkpoint may be other ones
            detokenize=False,
        )
        rows = [row[mask.bool()].tolist() for row, mask in zip(batch.tokens, batch.mask, strict=True)]
        outputs = llm.generate([{"prompt_token_ids": row} for row in rows], sampling, use_tqdm=False)
        answers = [list(output.outputs[0].token_ids) for output in outputs]
        width = max(map(len, answers))
        pad_token = ends[0] if ends else 0
        tokens = torch.tensor([row + [pad_token] * (width - len(row)) for row in answers])
        return GreedyAnswers(tokens, None, ends)

    return generate, tokenizer
