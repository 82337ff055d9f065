"""Negative log-likelihood of every token of a row, in memory that grows with its length by the KV cache alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.cache_utils import Cache, DynamicCache

from longgen.evaluation.finite import no_number
from longgen.modeling import BASE_FAMILIES, LongGenCache
from longgen.modeling.head import head_input
from longgen.modeling.mixin import LongGenMixin
from longgen.statistics import bootstrap_interval
from longgen.strict import require

# Our choices. A row is read in pieces of this many tokens, so that activations do not grow with its length ...
PREFILL_TOKENS = 8192
# ... and this many hidden states at a time become logits, which have as many values per token as there are words.
HEAD_TOKENS = 2048
# A token never seen as "impossible": keeps exp() of a bad interval finite.
MAX_NLL = 50.0


def check_model(model: Any) -> None:
    """Raise ConfigError unless `token_nll` knows how ``model`` makes logits of its hidden states."""
    family = model.config.model_type
    require(family.removeprefix("longgen_") in BASE_FAMILIES, "model_type", family, ", ".join(BASE_FAMILIES))


@torch.no_grad()
def token_nll(
    model: Any,
    tokens: torch.Tensor,
    prefill_tokens: int = PREFILL_TOKENS,
    advance: Callable[[int], Any] = lambda count: None,
) -> torch.Tensor:
    """How little a model expects each token after all that stand before it.

    Args:
        model: a causal LM of a family in `BASE_FAMILIES`, converted or not, in evaluation mode.
        tokens: [rows, length + 1] int64, on the model's device.
        prefill_tokens: longer rows are read in pieces of so many tokens, with a KV cache. The same but for rounding.
        advance: told after each piece how many tokens were read.

    Returns:
        [rows, length] float32, in nats, at most `MAX_NLL`: entry i is about token i + 1, given tokens 0 to i.

    Raises:
        ArtifactError: a loss is not a number.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    cache = _make_cache(model, inputs.shape[1]) if inputs.shape[1] > prefill_tokens else None
    losses: list[torch.Tensor] = []
    for piece, piece_targets in zip(inputs.split(prefill_tokens, 1), targets.split(prefill_tokens, 1), strict=True):
        hidden = model.model(input_ids=piece, past_key_values=cache, use_cache=cache is not None).last_hidden_state
        loss = _nll(head_input(model, hidden), model.lm_head, piece_targets)
        right = loss.isfinite().all(0)
        if not bool(right.all()):
            place = sum(part.shape[1] for part in losses) + int((~right).nonzero()[0])
            raise no_number(model, f"the loss is not a number from position {place} on")
        losses.append(loss.clamp(max=MAX_NLL))
        advance(piece.numel())
    return torch.cat(losses, dim=1)


def _make_cache(model: Any, length: int) -> Cache:
    if not isinstance(model, LongGenMixin):
        return DynamicCache(config=model.config)
    cache = LongGenCache(model.config)
    cache.reserve(length)
    return cache


def _nll(hidden: torch.Tensor, head: Any, targets: torch.Tensor) -> torch.Tensor:
    parts = zip(hidden.flatten(0, 1).split(HEAD_TOKENS), targets.flatten().split(HEAD_TOKENS), strict=True)
    losses = [F.cross_entropy(head(states).float(), labels, reduction="none") for states, labels in parts]
    return torch.cat(losses).view(targets.shape)


def bin_edges(length: int, bins: int) -> list[int]:
    """Where ``bins`` bins of positions begin, as equal as can be, and ``length``, where the last one ends."""
    return np.linspace(0, length, bins + 1).round().astype(int).tolist()


def bin_means(losses: np.ndarray, edges: list[int]) -> np.ndarray:
    """[documents, length] losses of tokens as [documents, bins] means, float64."""
    bins = itertools.pairwise(edges)
    return np.stack([losses[:, first:last].mean(axis=1, dtype=np.float64) for first, last in bins], axis=1)


def position_records(means: np.ndarray, edges: list[int], seed: int) -> list[dict[str, Any]]:
    """A record per bin: mean NLL in nats per token, its 95 % bootstrap interval over documents, and each document's.

    Args:
        means: [documents, bins], of `bin_means`.
        edges: of the bins.
        seed: of the bootstrap.
    """
    records = []
    for (first, last), by_document in zip(itertools.pairwise(edges), means.T, strict=True):
        nll = float(by_document.mean())
        low, high = bootstrap_interval(by_document, seed=seed)
        place = {"position_start": first, "position_end": last, "n": len(by_document)}
        values = {"nll": nll, "nll_low": low, "nll_high": high, "perplexity": math.exp(nll)}
        records.append(place | values | {"nll_by_document": by_document.tolist()})
    return records
