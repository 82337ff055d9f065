"""Greedy decoding with a reduced KV cache."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache

from longgen.errors import ConfigError
from longgen.evaluation.baselines.method import Method, check_count, check_full
from longgen.evaluation.finite import check_scores
from longgen.modeling.cache import LongGenCache


class Generation(NamedTuple):
    """What `generate` gives.

    Attributes:
        tokens: [batch, new tokens] int64.
        kept_bytes: of keys and values after the prompt, for all rows (`kept_bytes`).
    """

    tokens: torch.Tensor
    kept_bytes: int


@contextlib.contextmanager
def attention_of(model: Any, name: str | None) -> Iterator[None]:
    """Within it, ``model`` computes attention by the implementation ``name``; None leaves it as it is."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name or before
    try:
        yield
    finally:
        model.config._attn_implementation = before


def kept_bytes(cache: Cache) -> int:
    """Bytes of the keys and values that a cache holds, of all rows; room that is not used yet does not count."""
    layers = [part for _, part in cache.parts()] if isinstance(cache, LongGenCache) else cache.layers
    tensors = [tensor for layer in layers for name, tensor in layer.tensors().items() if name in ("keys", "values")]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@torch.no_grad()
def generate(
    model: Any,
    input_ids: torch.Tensor,
    max_new_tokens: int,
    method: Method,
    stop: Collection[int] = (),
    min_new_tokens: int = 0,
) -> Generation:
    """Greedy continuations, with the KV cache reduced by ``method``.

    Args:
        model: a longgen model with full attention in all heads, in evaluation mode.
        input_ids: [batch, tokens] int64, prompts of one length.
        max_new_tokens: at most so many new tokens.
        method: how the cache is reduced.
        stop: token ids that end a row, such as that of the end of text; the row is then filled with it.
        min_new_tokens: so many tokens are none of ``stop``, whatever their scores.

    Returns:
        new tokens, and the bytes kept of the prompt.

    Raises:
        ConfigError: a model with sparse heads, or impossible input.
        ArtifactError: the model's scores are no numbers.
    """
    check_full(model.config)
    check_count("max_new_tokens", max_new_tokens)
    if input_ids.dim() != 2 or not input_ids.numel() or input_ids.dtype != torch.int64:
        actual = f"{input_ids.dtype} {list(input_ids.shape)}"
        raise ConfigError(f"input_ids are {actual}: allowed is torch.int64 [batch, tokens], not empty")
    cache = method.make_cache(model)
    ends = torch.tensor(sorted(stop), dtype=torch.int64, device=input_ids.device)
    # a tokenizer may have more tokens than the model has scores for
    end_tokens = [token for token in sorted(stop) if token < model.config.vocab_size]
    end_ids = torch.tensor(end_tokens, dtype=torch.int64, device=input_ids.device)
    new: list[torch.Tensor] = []
    with attention_of(model, method.attention):
        tokens, kv_bytes = input_ids, 0
        while len(new) < max_new_tokens:
            logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            kv_bytes = kv_bytes if new else kept_bytes(cache)
            scores = logits[:, -1]
            check_scores(model, scores)
            if len(new) < min_new_tokens:
                scores = scores.index_fill(-1, end_ids, -torch.inf)
            next_tokens = scores.argmax(-1, keepdim=True)
            if new:
                next_tokens = torch.where(torch.isin(tokens, ends), tokens, next_tokens)
            new.append(next_tokens)
            tokens = next_tokens
            if len(ends) and bool(torch.isin(tokens, ends).all()):
                break
    return Generation(torch.cat(new, dim=1), kv_bytes)
