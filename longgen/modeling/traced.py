"""Padding and packed documents in a graph that torch.compile or torch.export builds.

Where tokens stand is known when numbers are, not while a graph is built, and who sees whom is no arithmetic on tensors.
So a layer's attention is one opaque operation of the graph: it gets the number of each token's document, and finds rows
and borders when it runs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from longgen.attention import PackedDocuments
from longgen.attention.autocast import in_one_dtype
from longgen.hybrid import HeadGroup, HeadPattern
from longgen.modeling.attention_parts import Kernels, attend_tokens
from longgen.modeling.padding import POSITIONS_DO_NOT_RISE, real_tokens
from longgen.pattern import SparsePattern

# An operation of a graph takes tensors, numbers and text.
OPERATION = "longgen::attend_documents"
BACKWARD = "longgen::attend_documents_backward"
ARGUMENTS = "Tensor query, Tensor key, Tensor value, Tensor? documents, str groups, float scale, str sparse, str full"


def document_numbers(
    inputs: torch.Tensor,
    mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    bounds: torch.Tensor | None,
) -> torch.Tensor:
    """For every token of a call without a cache, the number of its document in its row; 0 for padding.

    Args:
        inputs: [batch, tokens] or [batch, tokens, hidden size], the call's input.
        mask: [batch, tokens] booleans, False for padding.
        position_ids: [batch or 1, tokens]; a document begins wherever they do not rise by one.
        bounds: [documents + 1] where each begins, and the number of tokens; wins over ``position_ids``.

    Returns:
        [batch, tokens] int64; -1 in a row that has both a mask and a border.
    """
    batch, tokens = inputs.shape[:2]
    if bounds is not None:
        index = torch.arange(tokens, device=inputs.device)
        numbers = torch.searchsorted(bounds.to(inputs.device, torch.int64), index, right=True)[None]
    elif position_ids is not None:
        numbers = torch.nn.functional.pad((position_ids.diff(dim=-1) != 1).cumsum(-1), (1, 0)) + 1
    else:
        numbers = torch.ones(1, tokens, dtype=torch.int64, device=inputs.device)
    numbers = numbers.expand(batch, -1)
    if mask is None:
        return numbers.contiguous()
    # what padding's positions are does not count: a border of which one side is padding is none
    begins = numbers.diff(dim=1) != 0
    gap = (begins & mask[:, 1:] & mask[:, :-1]).any(1, keepdim=True)
    return torch.where(gap, -1, mask.long())


@in_one_dtype  # what the graph is run with, autocast does not reach
def attend_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: torch.Tensor | None,
    groups: str,
    scale: float | None,
    kernels: Kernels,
) -> torch.Tensor:
    """Attention of a layer, without a cache or with one that holds all tokens, as one operation of a graph.

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        documents: [batch, q_len], as `document_numbers` gives, without a cache; None for one in every row.
        groups: the layer's heads, by `groups_as_text`.
        scale: softmax scale; None is head_dim ** -0.5.
        kernels: which code computes it.

    Returns:
        [batch, query heads, q_len, head_dim]; differentiable, for which attention is computed once more.

    Raises:
        ValueError: when it runs: positions that do not rise in a call with a mask.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return torch.ops.longgen.attend_documents(query, key, value, documents, groups, scale, kernels.sparse, kernels.full)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    documents: torch.Tensor | None,
    groups: str,
    scale: float,
    sparse: str,
    full: str,
) -> torch.Tensor:
    rows = packed = None
    if documents is not None:
        if int(documents.min()) < 0:
            raise ValueError(POSITIONS_DO_NOT_RISE)
        rows = real_tokens(documents > 0)
        if int(documents.max()) > 1:
            packed = _packed(documents)
    head_groups, kernels = _groups_from_text(groups), Kernels(sparse, full)
    return attend_tokens(query, key, value, head_groups, key.shape[1], scale, kernels, rows, packed=packed).contiguous()


def _packed(documents: torch.Tensor) -> PackedDocuments:
    """The documents of all rows, as if these stood one after another."""
    borders = documents.flatten().diff().nonzero().flatten() + 1
    starts = torch.arange(0, documents.numel(), documents.shape[1], device=documents.device)
    ends = [*torch.cat([borders, starts]).unique().tolist(), documents.numel()]
    return PackedDocuments.of_lengths([end - start for start, end in pairwise(ends)], documents.device)


def _gradients(
    gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, ...]:
    with torch.enable_grad():
        query, key, value = states = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
        gradients = torch.autograd.grad(_attend(query, key, value, *rest), states, gradient)
    return tuple(own.contiguous() for own in gradients)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _differentiate(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    gradients = torch.ops.longgen.attend_documents_backward(gradient, *ctx.saved_tensors, *ctx.options)
    return *gradients, None, None, None, None, None


# Not by `torch.library.custom_op`, within which no gradient can be taken: it excludes autograd for all that it calls.
torch.library.define(OPERATION, f"({ARGUMENTS}) -> Tensor")
torch.library.define(BACKWARD, f"(Tensor gradient, {ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
torch.library.impl(OPERATION, "default", _attend)
torch.library.impl(BACKWARD, "default", _gradients)
torch.library.register_fake(OPERATION, lambda query, *_: query.new_empty(query.shape))
torch.library.register_fake(BACKWARD, lambda gradient, *states: tuple(own.new_empty(own.shape) for own in states[:3]))
torch.library.register_autograd(OPERATION, _differentiate, setup_context=_keep)


def groups_as_text(groups: Sequence[HeadGroup]) -> str:
    """The heads of a layer as an argument of the operation, which takes tensors, numbers and text."""
    entries = [
        (heads, None if head_pattern.pattern is None else head_pattern.pattern.to_dict(), head_pattern.head_offset)
        for heads, head_pattern in groups
    ]
    return json.dumps(entries)


@functools.cache
def _groups_from_text(groups: str) -> tuple[HeadGroup, ...]:
    return tuple(
        HeadGroup(tuple(heads), HeadPattern(None if pattern is None else SparsePattern(**pattern), offset))
        for heads, pattern, offset in json.loads(groups)
    )
