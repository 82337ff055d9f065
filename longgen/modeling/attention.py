"""Our attention in Hugging Face's interface: every head attends to what its `longgen.hybrid.Sight` lets it see."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AttentionInterface

from longgen.attention import BACKENDS, PackedDocuments
from longgen.attention.autocast import autocasted
from longgen.errors import ConfigError
from longgen.hybrid import HeadGroup
from longgen.modeling.padding import Tokens
from longgen.modeling.pieces import Kernels, Piece, attend, in_one_row, in_rows, pieces_of
from longgen.modeling.shifted import shifted_attention, unshifted_heads
from longgen.modeling.traced import attend_documents, groups_as_text

# `attn_implementation` of a model -> backend of its sparse heads. Full heads: `LongGenMixin.use_full_attention`.
IMPLEMENTATIONS = {"longgen": "auto"} | {f"longgen_{name}": name for name in BACKENDS}


# What a base family's layers may hand to attention, and our pattern would ignore without a word.
FOREIGN_ARGUMENTS = ("sliding_window", "softcap", "s_aux", "position_bias")

_registered: set[str] = set()


def register_implementation(name: str, function: Callable[..., Any]) -> None:
    """Make an attention function of ours known to transformers, as a value of ``attn_implementation``.

    It gets no mask: transformers makes none for an implementation without a mask function of its own.

    Args:
        name: of the implementation.
        function: as transformers' attention functions.
    """
    AttentionInterface.register(name, function)
    _registered.add(name)


def check_implementation(name: str | None) -> str:
    """``name``, or the default for None.

    Raises:
        ConfigError: attention that is not ours: in a hybrid it would be full in every layer.
    """
    if name is None:
        return "longgen"
    if name not in _registered:
        raise ConfigError(
            f"attn_implementation is {name!r}: allowed are {', '.join(IMPLEMENTATIONS)}, since any other would be full "
            "attention in every layer. `use_full_attention` chooses the kernel of full heads; the base model is full"
        )
    return name


def assign_heads(attention: Any, groups: tuple[HeadGroup, ...]) -> None:
    """Tell the attention module of a layer what its heads see."""
    attention.head_groups, attention.head_groups_text = groups, groups_as_text(groups)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor | list[Piece],
    value: torch.Tensor | None,
    attention_mask: None,
    scaling: float | None = None,
    dropout: float = 0.0,
    padded_rows: Sequence[Tokens] | None = None,
    seen_rows: Sequence[Tokens] | None = None,
    packed: PackedDocuments | None = None,
    documents: torch.Tensor | None = None,
    is_causal: bool | None = None,
    backend: str = "auto",
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None:
        raise TypeError(f"attention_mask is {type(attention_mask).__name__}: longgen attention takes none")
    if is_causal is False:
        raise ValueError("is_causal is False: longgen attention is causal, other masks are not supported")
    for name in FOREIGN_ARGUMENTS:
        if rest.get(name) is not None:
            raise ValueError(f"{name} is {rest[name]!r}: longgen attention supports None only")
    if dropout:
        raise ValueError(f"attention dropout is {dropout}: longgen attention supports 0 only")
    groups, num_kv_heads, sequence = module.head_groups, module.config.num_key_value_heads, module.sequence_parallel
    batch, fold = query.shape[0], False
    own, kernels = range(num_kv_heads), Kernels(backend, module.full_kernel)
    shifted = module.shifted_groups if module.training else None
    if isinstance(key, torch.Tensor) and torch.compiler.is_compiling():
        if shifted is not None or sequence is not None or packed is not None:
            raise ValueError(
                "attention is compiled with shifted groups, sequence parallelism or PackedDocuments: allowed is to "
                "compile the other parts of the layers"
            )
        assert value is not None
        output = attend_documents(query, key, value, documents, module.head_groups_text, scaling, kernels)
        return output.transpose(1, 2).contiguous(), None
    if shifted is not None:
        cached = not isinstance(key, torch.Tensor) or key.shape[2] != query.shape[2]
        if cached or padded_rows is not None:
            raise ValueError("groups of tokens are shifted in training: allowed are no padding and no KV cache")
    if isinstance(key, torch.Tensor):
        assert value is not None
        query, keys, values = autocasted(query, key, value)  # first, so that nothing is exchanged in full width
        if sequence is not None:
            query, keys, values = (sequence.to_heads(states) for states in (query, keys, values))
            groups, own = sequence.own_groups(groups), sequence.kv_heads
        fold = packed is not None and shifted is None and batch > 1  # documents stand in one row
        if fold:
            query, keys, values = (in_one_row(states) for states in (query, keys, values))
        key = pieces_of(keys, values, groups, query.shape[2], padded_rows, seen_rows)
    elif sequence is not None:
        raise ValueError("the tokens of a row are shared among processes: allowed is no KV cache")
    if shifted is None:
        output = attend(query, key, len(own), scaling, kernels, packed)
        output = in_rows(output, batch) if fold else output
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
        register_implementation(name, functools.partial(_attention, backend=backend))
