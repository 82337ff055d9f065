"""Tiny models of every supported family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.layout import parse_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern

FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
PATTERNS = [
    SparsePattern(8, 1, 3),
    SparsePattern(8, 1, 2, 4),
    SparsePattern(4, 2, 1, 3),
    SparsePattern(8, 0, 2),
    SparsePattern(16, 1, 1),
    SparsePattern(4, 1, 2, 5, staggered=True),
]
LAYOUTS = ["middle:1/3", "heads:1/3", "none"]


def combined(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Cases in which every two values of the first two axes meet, and every value of the others with each of these."""
    first, second, *rest = axes
    return [
        (one, two, *(axis[(i + j) % len(axis)] for axis in rest))
        for i, one in enumerate(first)
        for j, two in enumerate(second)
    ]


def tiny_base(family: str = "llama", **changes) -> PreTrainedModel:
    config_class, model_class = FAMILIES[family]
    shape = {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family == "mistral":
        shape["sliding_window"] = None
    torch.manual_seed(0)
    return model_class(config_class(**shape | changes)).eval()


def tiny_hybrid(family: str = "llama", layout: str = "middle:1/3", pattern: SparsePattern = PATTERNS[1]):
    """The hybrid with the weights of `tiny_base`, in memory."""
    base = tiny_base(family)
    config = longgen_config(base.config, parse_layout(layout, 6, base.config.num_key_value_heads), pattern)
    hybrid = longgen_classes(family)[1](config)
    hybrid.load_state_dict(base.state_dict())
    return hybrid.eval()


def save_byte_model(folder: Path, layout: str = "middle:1/3", pattern: SparsePattern = PATTERNS[1]) -> Path:
    """A hybrid that reads bytes, with its tokenizer, in ``folder``."""
    model = tiny_hybrid(layout=layout, pattern=pattern)
    model.resize_token_embeddings(VOCABULARY_SIZE)
    model.save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


def tokens(length: int, batch: int = 2, seed: int = 3) -> torch.Tensor:
    return torch.randint(3, 128, (batch, length), generator=torch.Generator().manual_seed(seed))
