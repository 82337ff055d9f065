"""Our attention in Hugging Face's interface: every head attends by its `longgen.hybrid.HeadPattern`."""

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
from longgen.modeling.attention_parts import AttentionPart, Kernels, attend, attend_tokens
from longgen.modeling.padding import TokenIndex
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


SHIFTED_ALONE = "groups of tokens are shifted in training: allowed are no padding and no KV cache"


def assign_heads(attention: Any, groups: tuple[HeadGroup, ...]) -> None:
    """Tell the attention module of a layer what its heads see."""
    attention.head_groups, attention.head_groups_text = groups, groups_as_text(groups)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor | list[AttentionPart],
    value: torch.Tensor | None,
    attention_mask: None,
    scaling: float | None = None,
    dropout: float = 0.0,
    padded_rows: Sequence[TokenIndex] | None = None,
    seen_rows: Sequence[TokenIndex] | None = None,
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
    heads = module.config.num_attention_heads
    if query.shape[1] != heads:
        raise ValueError(
            f"a process has {query.shape[1]} of {heads} heads: tensor parallelism is not supported, "
            "`sequence_parallel` of `longgen train` shares heads and tokens out"
        )
    kernels = Kernels(backend, module.full_kernel)
    if not isinstance(key, torch.Tensor):  # parts, of our cache
        if module.sequence_parallel is not None:
            raise ValueError("the tokens of a row are shared among processes: allowed is no KV cache")
        if module.shifted_groups is not None and module.training:
            raise ValueError(SHIFTED_ALONE)
        output = attend(query, key, module.config.num_key_value_heads, scaling, kernels, packed)
        return output.transpose(1, 2).contiguous(), None
    assert value is not None
    rows = (padded_rows, seen_rows, packed)
    if not torch.compiler.is_compiling():
        output = _attend_all(module, query, key, value, scaling, kernels, *rows)
    elif rows == (None, None, None) and module.sequence_parallel is None and module.shifted_groups is None:
        output = attend_documents(query, key, value, documents, module.head_groups_text, scaling, kernels)
    else:  # layers are compiled one by one, and what rows hold comes from outside of their graphs
        output = _attend_outside(module, query, key, value, scaling, kernels, *rows)
    return output.transpose(1, 2).contiguous(), None


def _attend_all(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    kernels: Kernels,
    padded_rows: Sequence[TokenIndex] | None,
    seen_rows: Sequence[TokenIndex] | None,
    packed: PackedDocuments | None,
) -> torch.Tensor:
    """Attention to keys and values that are all tokens so far: [batch, query heads, q_len, head_dim]."""
    groups, num_kv_heads, sequence = module.head_groups, module.config.num_key_value_heads, module.sequence_parallel
    kv_heads = range(num_kv_heads)
    shifted = module.shifted_groups if module.training else None
    if shifted is not None and (key.shape[2] != query.shape[2] or padded_rows is not None):
        raise ValueError(SHIFTED_ALONE)
    query, key, value = autocasted(query, key, value)  # first, so that nothing is exchanged in full width
    if sequence is not None:
        query, key, value = (sequence.to_heads(states) for states in (query, key, value))
        groups, kv_heads = sequence.own_groups(groups), sequence.kv_heads
    if shifted is not None:
        unshifted = unshifted_heads(kv_heads, num_kv_heads)
        output = shifted_attention(query, key, value, shifted, unshifted, scaling, packed, kernels.full)
    else:
        output = attend_tokens(
            query, key, value, groups, len(kv_heads), scaling, kernels, padded_rows, seen_rows, packed
        )
    return output if sequence is None else sequence.to_tokens(output)


_attend_outside = torch.compiler.disable(_attend_all)


def register_attention() -> None:
    """Make `IMPLEMENTATIONS` known to transformers."""
    for name, backend in IMPLEMENTATIONS.items():
        register_implementation(name, functools.partial(_attention, backend=backend))
