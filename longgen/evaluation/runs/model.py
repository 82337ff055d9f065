"""A model that answers: loaded once, greedy, with its own KV cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from longgen.errors import ArtifactError
from longgen.evaluation.baselines import kept_bytes
from longgen.evaluation.baselines.method import full_kv_bytes
from longgen.evaluation.greedy import end_tokens, greedy_decoding
from longgen.evaluation.likelihood import PREFILL_TOKENS
from longgen.evaluation.runs.predict import Generate, GreedyAnswers, PromptBatch
from longgen.files import fingerprint_files
from longgen.foreign import reading
from longgen.modeling.cache import LongGenCache
from longgen.modeling.loading import load_complete
from longgen.modeling.mixin import LongGenMixin


def load_model(folder: Path, dtype: torch.dtype, device: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder.

    Raises:
        ArtifactError: it is no model folder, incomplete, or damaged.
    """
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder} has no config.json: `longgen train` or `longgen convert` makes a model")
    otherwise = "`longgen train` or `longgen convert --overwrite` makes the model anew"
    model = load_complete(folder, otherwise, dtype=dtype)
    with reading(folder, otherwise):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return model.to(device).eval(), tokenizer


def model_identity(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """What determines the answers of a model: weights, configuration, tokenizer, and the dtype that computes."""
    files = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.json"))]
    return {"model": fingerprint_files(files), "dtype": str(dtype).removeprefix("torch.")}


def attention_kernels(model: Any) -> dict[str, str]:
    """Which of our code computes attention, for a result's provenance; nothing where the model is no hybrid."""
    return model.attention_kernels() if isinstance(model, LongGenMixin) else {}


def greedy(model: Any, prefill_tokens: int = PREFILL_TOKENS) -> Generate:
    """Greedy continuation, whatever the model's own generation defaults say but for its end-of-text tokens."""

    @torch.no_grad()
    def generate(batch: PromptBatch) -> GreedyAnswers:
        rows, width = batch.tokens.shape
        options: dict[str, Any] = {}
        if rows == 1 and width > prefill_tokens:
            options["prefill_chunk_size"] = prefill_tokens
        cache = LongGenCache(model.config) if isinstance(model, LongGenMixin) else None
        after_prompt, ends = _AfterPrompt(cache), [*end_tokens(model), *batch.stop]
        with greedy_decoding(model) as checks:
            sequences = model.generate(
                batch.tokens,
                attention_mask=batch.mask,
                max_new_tokens=batch.max_new_tokens,
                min_new_tokens=batch.min_new_tokens or None,
                eos_token_id=ends or None,
                pad_token_id=ends[0] if ends else None,
                past_key_values=cache,
                logits_processor=checks,
                stopping_criteria=StoppingCriteriaList([after_prompt]),
                **options,
            )
        fraction = None
        if after_prompt.kept_bytes is not None and bool(batch.mask.all()):  # slots for padded rows are no measure
            fraction = after_prompt.kept_bytes / (rows * full_kv_bytes(model, width))
        return GreedyAnswers(sequences[:, width:], fraction, ends)

    return generate


class _AfterPrompt(StoppingCriteria):
    """Never stops; notes how much the cache holds when the first new token is there."""

    def __init__(self, cache: LongGenCache | None) -> None:
        self.cache = cache
        self.kept_bytes: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if self.kept_bytes is None and self.cache is not None:
            self.kept_bytes = kept_bytes(self.cache)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
