"""The base model of an experiment, its Hugging Face config, and that of a Llama of any shape."""

from __future__ import annotations

import dataclasses

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from longgen.config import ModelSettings
from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID, PAD_ID
from longgen.shapes import ModelShape


def base_config(settings: ModelSettings, max_length: int) -> LlamaConfig:
    """The Hugging Face config of the base model.

    Args:
        settings: its shape.
        max_length: longest sequence in tokens (``max_position_embeddings``).
    """
    shape = dataclasses.asdict(settings)
    rope_theta = shape.pop("rope_theta")
    # of a base model that is not made here; and of how one is made, which Hugging Face's config has no name for
    del shape["checkpoint"], shape["max_position_embeddings"], shape["residual_initializer_range"]
    return LlamaConfig(
        **shape,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        max_position_embeddings=max_length,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )


def base_model(settings: ModelSettings, max_length: int) -> LlamaForCausalLM:
    """The base model with random weights, of PyTorch's global generator.

    Args:
        settings: its shape and the standard deviations of its weights.
        max_length: longest sequence in tokens (``max_position_embeddings``).
    """
    model = LlamaForCausalLM(base_config(settings, max_length))
    if settings.residual_initializer_range is not None:
        for layer in model.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                torch.nn.init.normal_(projection.weight, std=settings.residual_initializer_range)
    return model


def shape_config(shape: ModelShape, max_length: int) -> LlamaConfig:
    """The config of a Llama with the layers of ``shape``, for measuring without its weights.

    Args:
        shape: its sizes.
        max_length: longest sequence in tokens.
    """
    return LlamaConfig(
        num_hidden_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocab_size,
        tie_word_embeddings=shape.tie_word_embeddings,
        max_position_embeddings=max_length,
    )
