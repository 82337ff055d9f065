"""A tiny model of bytes, in which one layer's attention is the only one that does anything, and documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from longgen.data.synthetic.tokenizer import save_byte_tokenizer

LAYERS, KV_HEADS, HEAD_DIM = 4, 2, 16


def probed_model(layers: int = LAYERS, attending: dict[int, int | None] | None = None) -> LlamaForCausalLM:
    """A Llama with random weights; with ``attending`` only the attention of these layers (or of one KV head) is left.

    Its weights are large: what is in sight or not makes more of a difference than rounding.
    """
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=4096,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    for index, layer in enumerate(model.model.layers):
        if attending is not None and index not in attending:
            layer.self_attn.o_proj.weight.data.zero_()
        elif attending is not None and (head := attending[index]) is not None:
            width = 4 // KV_HEADS * HEAD_DIM  # of a KV head's query heads
            kept = torch.zeros(4 * HEAD_DIM, dtype=torch.bool)
            kept[head * width : (head + 1) * width] = True
            layer.self_attn.o_proj.weight.data[:, ~kept] = 0
    return model


def save_probed_model(folder: Path, layers: int = LAYERS, attending: dict[int, int | None] | None = None) -> Path:
    """`probed_model` as a checkpoint with its tokenizer."""
    probed_model(layers, attending).save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


def write_text(folder: Path) -> Path:
    """A folder of documents."""
    folder.mkdir(parents=True)
    words = ("the", "a", "man", "sea", "was", "old", "of", "and", "in", "it", "house", "said", "her", "not", "stone.")
    for number in range(2):
        chosen = np.random.default_rng(number).choice(words, 4000)
        (folder / f"{number}.txt").write_text(" ".join(chosen))
    return folder
