"""Arithmetic of up-sampling: how many tokens each group of documents gives, and drawing them."""

from __future__ import annotations

import numpy as np

from longgen.data.packing.settings import UpsamplingSettings
from longgen.errors import ArtifactError


def apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Split ``total`` into int64 parts in proportion to ``weights``, by largest remainders (Hamilton's method)."""
    exact = total * (weights / weights.sum())
    parts = np.floor(exact).astype(np.int64)
    largest = np.argsort(parts - exact, kind="stable")
    parts[largest[: total - int(parts.sum())]] += 1
    return parts


def long_share(natural: float, settings: UpsamplingSettings) -> float:
    """Share of the tokens of a group that long documents give, where ``natural`` is their share as read.

    With ``factor`` f: f n / (f n + 1 - n), what remains long when one short document in f is kept, as the released
    code of Fu et al. 2024 does (it calls that equivalent to up-sampling). With ``share``: that, but never less than
    ``natural`` (our choice: up-sampling does not lower it).
    """
    if settings.share is not None:
        return max(natural, settings.share)
    assert settings.factor is not None
    return settings.factor * natural / (settings.factor * natural + 1 - natural)


def draw(
    usable: np.ndarray, candidates: np.ndarray, quota: int, max_repeats: int, generator: np.random.Generator, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Draw documents in random order until they give exactly ``quota`` tokens.

    Args:
        usable: tokens that each document can give.
        candidates: numbers of the documents to draw from.
        quota: tokens to draw.
        max_repeats: every document is drawn once before any is drawn again, and at most this often.
        generator: random numbers.
        what: describes the candidates, for the error message.

    Returns:
        [count] numbers of documents and [count] int64 tokens that each gives: all, and of the last one what is left.

    Raises:
        ArtifactError: the candidates do not give that much.
    """
    if quota == 0:
        return candidates[:0], usable[:0]
    available = int(usable[candidates].sum())
    if available * max_repeats < quota:
        repeats = f", each used at most {max_repeats} times" if max_repeats > 1 else ""
        raise ArtifactError(
            f"{quota:,} tokens are wanted from {what}, which have {available:,}{repeats}: read more (more sources, "
            "larger max_tokens), lower token_budget or the up-sampling, or raise upsampling.max_repeats"
        )
    documents = np.concatenate([generator.permutation(candidates) for _ in range(-(-quota // available))])
    ends = np.cumsum(usable[documents])
    count = int(np.searchsorted(ends, quota)) + 1
    documents = documents[:count]
    tokens = usable[documents]
    tokens[-1] -= ends[count - 1] - quota
    return documents, tokens
