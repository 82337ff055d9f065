"""Our attention in Hugging Face's interface: every head attends to what its `longgen.hybrid.Sight` lets it see."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from longgen.attention import BACKENDS
from longgen.modeling.pieces import Piece, attend, pieces_of

# `attn_implementation` of a model -> backend of its sparse heads.
IMPLEMENTATIONS = {"longgen": "auto"} | {f"longgen_{name}": name for name in BACKENDS}


def _no_mask(
    *, mask_function: Any = causal_mask_function, attention_mask: torch.Tensor | None = None, **_: Any
) -> None:
    """In place of a dense mask: who sees whom follows from the pattern and from where the tokens stand."""
    if mask_function is not causal_mask_function:
        raise ValueError("longgen attention is causal: packed positions and other mask functions are not supported")
    if attention_mask is not None and not bool(attention_mask.all()):
        raise ValueError("attention_mask has zeros: call the causal LM itself, whose forward takes care of padding")


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor | list[Piece],
    value: torch.Tensor | None,
    attention_mask: None,
    scaling: float | None = None,
    dropout: float = 0.0,
    padded_rows: Sequence[slice] | None = None,
    backend: str = "auto",
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None:
        raise TypeError(f"attention_mask is {type(attention_mask).__name__}: longgen attention takes none")
    if dropout:
        raise ValueError(f"attention dropout is {dropout}: longgen attention supports 0 only")
    if isinstance(key, torch.Tensor):
        assert value is not None
        key = pieces_of(key, value, module.head_groups, query.shape[2], padded_rows)
    output = attend(query, key, module.config.num_key_value_heads, scaling, backend)
    return output.transpose(1, 2).contiguous(), None


def register_attention() -> None:
    """Make `IMPLEMENTATIONS` known to transformers."""
    for name, backend in IMPLEMENTATIONS.items():
        AttentionInterface.register(name, functools.partial(_attention, backend=backend))
        AttentionMaskInterface.register(name, _no_mask)
