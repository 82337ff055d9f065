"""Our attention in Hugging Face's interface: a full layer attends to all, a sparse layer by the pattern."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from longgen.attention import BACKENDS, full_attention, sparse_attention
from longgen.modeling.configuration import hybrid_of

# `attn_implementation` of a model -> backend of its sparse layers.
IMPLEMENTATIONS = {"longgen": "blocked"} | {f"longgen_{name}": name for name in BACKENDS}


class Span(NamedTuple):
    """What every layer gets instead of a dense mask: where the queries stand. Keys are all those up to them."""

    query_offset: int


def _make_span(
    *,
    q_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    **_: Any,
) -> Span:
    if mask_function is not causal_mask_function:
        raise ValueError("longgen attention is causal: packed positions and other mask functions are not supported")
    if attention_mask is not None and bool((attention_mask[:, 1:] > attention_mask[:, :-1]).any()):
        raise ValueError("longgen attention needs right padding: attention_mask has a 0 before a 1 (left padding)")
    # Right padding needs no mask: real tokens come before the padding, and no token sees a later one.
    return Span(int(q_offset))


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Span,
    scaling: float | None = None,
    dropout: float = 0.0,
    backend: str = "blocked",
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if not isinstance(attention_mask, Span):
        raise TypeError(f"attention_mask is {type(attention_mask).__name__}: the model must build it (longgen Span)")
    if dropout:
        raise ValueError(f"attention dropout is {dropout}: longgen attention supports 0 only")
    hybrid = hybrid_of(module.config)
    if hybrid.layout.full[module.layer_idx]:
        output = full_attention(query, key, value, scaling)
    else:
        offset = attention_mask.query_offset
        output = sparse_attention(query, key, value, hybrid.pattern, offset, scaling, backend)
    return output.transpose(1, 2).contiguous(), None


def register_attention() -> None:
    """Make `IMPLEMENTATIONS` known to transformers."""
    for name, backend in IMPLEMENTATIONS.items():
        AttentionInterface.register(name, functools.partial(_attention, backend=backend))
        AttentionMaskInterface.register(name, _make_span)
