"""The base model of an experiment: a Llama of the configured shape over the byte vocabulary."""

from __future__ import annotations

import dataclasses

from transformers import LlamaConfig

from longgen.config import ModelSettings
from longgen.data.vocabulary import BOS_ID, EOS_ID, PAD_ID


def base_config(settings: ModelSettings, max_length: int) -> LlamaConfig:
    """The Hugging Face config of the base model.

    Args:
        settings: its shape.
        max_length: longest sequence in tokens (``max_position_embeddings``).
    """
    shape = dataclasses.asdict(settings)
    rope_theta = shape.pop("rope_theta")
    del shape["checkpoint"], shape["max_position_embeddings"]  # of a base model that is not made here
    return LlamaConfig(
        **shape,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        max_position_embeddings=max_length,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )
