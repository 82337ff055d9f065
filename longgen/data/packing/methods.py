"""How documents become rows, by name. Each method says which documents are used, and which tokens make which rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from longgen.data.packing.quotas import apportion, draw, long_share
from longgen.data.packing.settings import PackSettings, UpsamplingSettings
from longgen.data.packing.table import DocumentTable
from longgen.errors import ConfigError


@dataclass(frozen=True)
class Stream:
    """Rows of one length: pieces of documents one after another, cut every ``length`` tokens.

    Attributes:
        length: tokens per row.
        documents: [pieces] numbers of the documents.
        starts, stops: [pieces] int64, which of their tokens; all together a multiple of ``length``.
    """

    length: int
    documents: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


@dataclass(frozen=True)
class PackPlan:
    """All rows, and the documents that were drawn for them (a repeated one repeatedly), used to the end or not."""

    streams: list[Stream]
    documents: np.ndarray


@dataclass(frozen=True)
class _Group:
    """Documents that are drawn from alike: their numbers, the tokens they must give, a description."""

    candidates: np.ndarray
    quota: int
    what: str


def _concatenate(groups: list[_Group], table: DocumentTable, settings: PackSettings, max_repeats: int) -> PackPlan:
    """Draw from every group, shuffle, and lay the documents end to end."""
    documents_of_groups, tokens_of_groups = [], []
    for number, group in enumerate(groups):
        generator = np.random.default_rng([settings.seed, 1, number])
        documents, tokens = draw(table.lengths, group.candidates, group.quota, max_repeats, generator, group.what)
        documents_of_groups.append(documents)
        tokens_of_groups.append(tokens)
    order = np.random.default_rng([settings.seed, 0]).permutation(sum(map(len, documents_of_groups)))
    documents, stops = np.concatenate(documents_of_groups)[order], np.concatenate(tokens_of_groups)[order]
    return PackPlan(_split(documents, stops, settings), documents)


def _split(documents: np.ndarray, tokens: np.ndarray, settings: PackSettings) -> list[Stream]:
    """Documents end to end, of which each gives its first ``tokens``, as one stream for every length of rows."""
    ends = np.cumsum(tokens)
    begins, streams, first = ends - tokens, [], 0
    for number, (length, count) in enumerate(settings.rows.items()):
        last = first + length * count
        cuts = ends[(ends > first) & (ends < last)]
        if settings.shuffle_rows:
            cuts = np.union1d(cuts, np.arange(first, last, length))
        edges = np.unique(np.concatenate([[first], cuts, [last]]))
        piece = np.searchsorted(ends, edges[:-1], side="right")
        starts, stops = edges[:-1] - begins[piece], edges[1:] - begins[piece]
        order = np.arange(len(piece))
        if settings.shuffle_rows:
            places = np.random.default_rng([settings.seed, 3, number]).permutation(count)
            order = np.argsort(places[(edges[:-1] - first) // length], kind="stable")
        streams.append(Stream(length, documents[piece[order]], starts[order], stops[order]))
        first = last
    return streams


def cut(table: DocumentTable, settings: PackSettings) -> PackPlan:
    """Concatenate and cut: documents as they come, in random order ("cutting at 128K" in Fu et al. 2024)."""
    group = _Group(np.flatnonzero(table.unique), settings.tokens, "all documents")
    return _concatenate([group], table, settings, max_repeats=1)


def _long_and_short(
    table: DocumentTable, mask: np.ndarray, quota: int, upsampling: UpsamplingSettings, what: str
) -> list[_Group]:
    """Two groups of the documents where ``mask``, which together give ``quota`` tokens, long ones up-sampled."""
    is_long = table.lengths >= upsampling.threshold
    natural = table.lengths[mask & is_long].sum() / table.lengths[mask].sum()
    tokens = round(long_share(float(natural), upsampling) * quota)
    threshold = f"{upsampling.threshold:,} tokens"
    return [
        _Group(np.flatnonzero(mask & is_long), tokens, f"{what} of at least {threshold}"),
        _Group(np.flatnonzero(mask & ~is_long), quota - tokens, f"{what} of less than {threshold}"),
    ]


def global_upsampling(table: DocumentTable, settings: PackSettings) -> PackPlan:
    """Up-sample long documents whatever their domain; the mixture of domains shifts ("global" in Fu et al. 2024)."""
    groups = _long_and_short(table, table.unique, settings.tokens, settings.upsampling, "all documents")
    return _concatenate(groups, table, settings, settings.upsampling.max_repeats)


def per_source(table: DocumentTable, settings: PackSettings) -> PackPlan:
    """Up-sample long documents within each domain and keep the mixture of domains: what Fu et al. 2024 recommend.

    Every domain gives exactly its share of the tokens. As in the released code, each is filled by itself; unlike
    there, lengths are in tokens (not estimated from characters) and the last document of a group is cut (our choices).
    """
    upsampling = settings.upsampling
    natural = np.bincount(table.domains[table.unique], table.lengths[table.unique], minlength=len(table.names))
    weights = natural if settings.mixture is None else _mixture_weights(settings.mixture, table.names)
    groups = []
    for domain, quota in enumerate(apportion(settings.tokens, weights).tolist()):
        mask = table.unique & (table.domains == domain)
        if mask.any():  # a domain may be all duplicates
            groups += _long_and_short(table, mask, quota, upsampling, f"documents of {table.names[domain]}")
    return _concatenate(groups, table, settings, upsampling.max_repeats)


def _mixture_weights(mixture: dict[str, float], names: list[str]) -> np.ndarray:
    if set(mixture) != set(names):
        raise ConfigError(f"mixture names {', '.join(sorted(mixture))}: allowed are those read, {', '.join(names)}")
    return np.array([mixture[name] for name in names])


def buckets(table: DocumentTable, settings: PackSettings) -> PackPlan:
    """Dataset decomposition (Pouransari et al. 2024, arXiv 2405.13226): every row is of a single document.

    A document is split into pieces whose lengths are powers of two, the longest first; a bucket holds rows of one
    length. What is left below the shortest length is not used. The paper does not fix how documents longer than the
    longest bucket are split, and its released code offers two ways; ours gives the longest pieces (its
    ``randomize=False``). How many rows a bucket has follows from the documents that were drawn.
    """
    shortest, longest_first = min(settings.lengths), sorted(settings.lengths, reverse=True)
    usable = table.lengths // shortest * shortest
    generator = np.random.default_rng([settings.seed, 1, 0])
    what = f"all documents, in pieces of at least {shortest:,}"
    documents, remaining = draw(usable, np.flatnonzero(table.unique), settings.tokens, 1, generator, what)
    position = np.zeros_like(remaining)
    streams = []
    for number, length in enumerate(longest_first):
        count = remaining // length
        index = np.repeat(np.arange(len(documents)), count)
        nth = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        order = np.random.default_rng([settings.seed, 0, number]).permutation(len(index))
        starts = (position[index] + nth * length)[order]
        streams.append(Stream(length, documents[index[order]], starts, starts + length))
        position += count * length
        remaining = remaining - count * length
    return PackPlan([stream for stream in streams if len(stream.documents)], documents)


METHODS: dict[str, Callable[[DocumentTable, PackSettings], PackPlan]] = {
    "per-source": per_source,
    "global": global_upsampling,
    "cut": cut,
    "buckets": buckets,
}
