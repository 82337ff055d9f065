"""Our attention in Hugging Face's interface: every head attends to what its `longgen.hybrid.Sight` lets it see."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from longgen.attention import BACKENDS, PackedDocuments
from longgen.modeling.pieces import Kernels, Piece, attend, pieces_of
from longgen.modeling.shifted import shifted_attention, unshifted_heads

# `attn_implementation` of a model -> backend of its sparse heads. Full heads: `LongGenMixin.use_full_attention`.
IMPLEMENTATIONS = {"longgen": "auto"} | {f"longgen_{name}": name for name in BACKENDS}


def _no_mask(
    *, mask_function: Any = causal_mask_function, attention_mask: torch.Tensor | None = None, **_: Any
) -> None:
    """In place of a dense mask: who sees whom follows from the pattern and from where the tokens stand."""
    if mask_function is not causal_mask_function:
        raise ValueError("longgen attention is causal: other mask functions are not supported")
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
    packed: PackedDocuments | None = None,
    backend: str = "auto",
    **_: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None:
        raise TypeError(f"attention_mask is {type(attention_mask).__name__}: longgen attention takes none")
    if dropout:
        raise ValueError(f"attention dropout is {dropout}: longgen attention supports 0 only")
    groups, num_kv_heads, sequence = module.head_groups, module.config.num_key_value_heads, module.sequence_parallel
    own, kernels = range(num_kv_heads), Kernels(backend, module.full_kernel)
    shifted = module.shifted_groups if module.training else None
    if shifted is not None:
        cached = not isinstance(key, torch.Tensor) or key.shape[2] != query.shape[2]
        if cached or padded_rows is not None:
            raise ValueError("groups of tokens are shifted in training: allowed are no padding and no KV cache")
    if isinstance(key, torch.Tensor):
        keys, values = key, value
        assert values is not None
        if sequence is not None:
            query, keys, values = (sequence.to_heads(states) for states in (query, keys, values))
            groups, own = sequence.own_groups(groups), sequence.kv_heads
        key = pieces_of(keys, values, groups, query.shape[2], padded_rows)
    elif sequence is not None:
        raise ValueError("the tokens of a row are shared among processes: allowed is no KV cache")
    if shifted is None:
        output = attend(query, key, len(own), scaling, kernels, packed)
    else:
        (piece,) = key  # of a full layer: all heads of all rows
        unshifted = unshifted_heads(own, num_kv_heads)
        output = shifted_attention(query, piece.key, piece.value, shifted, unshifted, scaling, packed, kernels.full)
    if sequence is not None:
        output = sequence.to_tokens(output)
    return output.transpose(1, 2).contiguous(), None


def register_attention() -> None:
    """Make `IMPLEMENTATIONS` known to transformers."""
    for name, backend in IMPLEMENTATIONS.items():
        AttentionInterface.register(name, functools.partial(_attention, backend=backend))
        AttentionMaskInterface.register(name, _no_mask)
