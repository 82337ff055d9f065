"""A model that answers: loaded once, greedy, with its own KV cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.baselines import generate as generate_reduced
from longgen.evaluation.baselines import method_for_budget
from longgen.evaluation.likelihood import PREFILL_TOKENS
from longgen.evaluation.runs.predict import Generate
from longgen.files import fingerprint_files
from longgen.modeling.mixin import LongGenMixin


def load_model(folder: Path, dtype: torch.dtype, device: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder.

    Raises:
        ArtifactError: it is no model folder.
    """
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder} has no config.json: `longgen train` or `longgen convert` makes a model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def model_identity(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """What determines the answers of a model: weights, configuration, tokenizer, and the dtype that computes."""
    files = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.json"))]
    return {"model": fingerprint_files(files), "dtype": str(dtype).removeprefix("torch.")}


def attention_kernels(model: Any) -> dict[str, str]:
    """Which of our code computes attention, for a result's provenance; nothing where the model is no hybrid."""
    return model.attention_kernels() if isinstance(model, LongGenMixin) else {}


def greedy(model: Any, prefill_tokens: int = PREFILL_TOKENS) -> Generate:
    """Greedy continuation, whatever the model's own generation defaults say."""

    @torch.no_grad()
    def generate(tokens: torch.Tensor, mask: torch.Tensor, new_tokens: int) -> torch.Tensor:
        options: dict[str, Any] = {}
        if tokens.shape[0] == 1 and tokens.shape[1] > prefill_tokens:
            options["prefill_chunk_size"] = prefill_tokens
        generated = model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=model.generation_config.pad_token_id or 0,
            **options,
        )
        return generated[:, tokens.shape[1] :]

    return generate


def reduced(model: Any, method: str, fraction: float) -> Generate:
    """Greedy continuation of a full model whose KV cache is reduced to ``fraction`` of its bytes at every prompt.

    Raises:
        ConfigError: an unknown method, an impossible fraction, or a model with sparse heads.
    """
    bytes_per_value = next(model.parameters()).element_size()
    ends = model.generation_config.eos_token_id
    stop = ends if isinstance(ends, list) else [] if ends is None else [ends]

    def generate(tokens: torch.Tensor, mask: torch.Tensor, new_tokens: int) -> torch.Tensor:
        if not bool(mask.all()):
            raise ConfigError("--batch-tokens is set with --kv-method: allowed is 0, as prompts differ in length")
        chosen = method_for_budget(method, fraction, tokens.shape[1], model.config, bytes_per_value)
        return generate_reduced(model, tokens, new_tokens, chosen.method, stop).tokens

    return generate
