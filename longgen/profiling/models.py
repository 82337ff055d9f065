"""Models to measure, with random weights: speed and memory do not depend on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from longgen.layout import make_layout
from longgen.modeling import longgen_config
from longgen.modeling.attention import assign_heads
from longgen.profiling.stacks import SINK, Stack
from longgen.profiling.workloads import PATTERNS
from longgen.shapes import ModelShape
from longgen.training.base import shape_config


def random_stack(
    shape: ModelShape, num_layers: int, length: int, device: torch.device | str, dtype: torch.dtype
) -> Any:
    """Layers of ``shape`` under its embeddings and LM head, all full: `become` makes any stack of as many or fewer.

    Args:
        shape: of the whole model; its layers are built as Llama's.
        num_layers: how many are built.
        length: longest sequence in tokens.
        device: where the weights are drawn, and stay.
        dtype: of the weights.

    Raises:
        torch.OutOfMemoryError: they do not fit.
    """
    base = shape_config(replace(shape, num_layers=num_layers), length)
    config = longgen_config(base, make_layout(num_layers, "all"), PATTERNS[SINK])
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def become(model: Any, stack: Stack) -> None:
    """Make of a `random_stack` the hybrid ``stack``, in place; layers above it are left out."""
    model.config.num_hidden_layers = stack.num_layers  # as many does transformers' decoder go through
    for number in range(stack.num_layers):
        groups = stack.hybrid.head_groups(number, model.config.num_key_value_heads)
        assign_heads(model.model.layers[number].self_attn, groups)
