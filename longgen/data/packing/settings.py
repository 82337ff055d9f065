"""The configuration of `longgen pack`: sources, tokenizer, method, budget (config/data/*.yaml)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from longgen.results import check_run_name
from longgen.strict import require

# How fast and how forgiving, not what: may change between an interrupted run and its continuation.
FREE = ("name", "workers", "max_bad_fraction")


@dataclass(frozen=True)
class LongSourceSettings:
    """One source of documents.

    Attributes:
        name: for reports and messages; the domain of its documents where ``source_field`` is null.
        kind: a name in `longgen.data.packing.readers.READERS`.
        path: a file, a folder (searched recursively) or a glob pattern; for ``hub`` a dataset's id or local folder.
        split, subset, revision: of a ``hub`` dataset; pin the revision to a commit for a run that can be repeated.
        text_field: dotted path of the text in a record.
        source_field: dotted path of the domain in a record (SlimPajama: ``meta.redpajama_set_name``), or null.
        max_tokens: stop reading after the block of documents in which this many tokens are reached; null reads all.
    """

    name: str
    kind: str
    path: str
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    text_field: str = "text"
    source_field: str | None = "meta.source"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("name", "path", "text_field"):
            require(getattr(self, name) != "", name, getattr(self, name), "text that is not empty")
        require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", self.max_tokens, "a number >= 1 or null")


@dataclass(frozen=True)
class UpsamplingSettings:
    """How much more often long documents are used (Fu et al. 2024, arXiv 2402.10171): by ``factor`` or ``share``.

    Attributes:
        threshold: tokens from which on a document is long. 4096: the paper.
        factor: a long document is this many times as likely to be used as a short one of its group. The paper's
            released code keeps one short document in ten, which is a factor of 10.
        share: part of the tokens that comes from long documents, in every group that has less by itself (our choice
            of an alternative).
        max_repeats: how often a document may be used. The released code never repeats one; more is our choice.
    """

    threshold: int = 4096
    factor: float | None = None
    share: float | None = None
    max_repeats: int = 1

    def __post_init__(self) -> None:
        require(self.threshold >= 1, "threshold", self.threshold, "a whole number >= 1")
        require(self.factor is None or self.factor >= 1, "factor", self.factor, "a number >= 1")
        require(self.share is None or 0 < self.share <= 1, "share", self.share, "a number within 0..1, not 0")
        require(self.max_repeats >= 1, "max_repeats", self.max_repeats, "a whole number >= 1")


@dataclass(frozen=True)
class LookupSettings:
    """Rows in which facts are scattered and asked for (`longgen.data.packing.lookups`). All of it is our choice.

    Attributes:
        share: of the rows of every length.
        tokens_per_question: a row of n tokens has at most n over this many questions. How many it has is drawn such
            that its logarithm is uniform: rows with few and with many occur at every length.
        most_tokens_per_question: and at least n over this many; null: one.
        quotes: share of the questions that ask how a passage of the text goes on; the others ask for facts.
        kinds: of facts, names in `longgen.data.facts.KINDS`; null: all.
    """

    share: float
    tokens_per_question: int = 256
    most_tokens_per_question: int | None = None
    quotes: float = 0.125
    kinds: list[str] | None = None

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", self.share, "a number within 0..1, not 0")
        require(self.tokens_per_question >= 1, "tokens_per_question", self.tokens_per_question, "a whole number >= 1")
        most = self.most_tokens_per_question
        allowed = f"a whole number >= {self.tokens_per_question}, tokens_per_question, or null"
        require(most is None or most >= self.tokens_per_question, "most_tokens_per_question", most, allowed)
        require(0 <= self.quotes <= 1, "quotes", self.quotes, "a number within 0..1")
        require(self.kinds is None or len(self.kinds) > 0, "kinds", self.kinds, "at least one, or null")


@dataclass(frozen=True)
class PackSettings:
    """A whole configuration file of `longgen pack`; `longgen.data.packing.configuration.load_pack_settings` reads it.

    Attributes:
        name: of the run, for its results file.
        sources: read in this order.
        tokenizer: ``bytes``, a folder or hub id of a Hugging Face tokenizer, or a .gguf file.
        method: a name in `longgen.data.packing.methods.METHODS`.
        lengths: tokens per row; for ``buckets`` powers of two.
        token_budget: tokens to write, rounded down to whole rows (for ``buckets`` of the shortest length).
        length_shares: of the budget, for each of ``lengths``; null: equal ones. For ``buckets`` they follow from the
            documents.
        upsampling: for the methods that up-sample, which need a factor or a share, and for them only.
        lookups: facts to look up in some of the rows; null: none.
        mixture: share of tokens by domain for ``per-source``; null keeps that of what was read (the paper).
        begin_with_bos: put the tokenizer's BOS before every document, as the released code of Fu et al. does.
        end_with_eos: put its EOS after every document (our choice, as in `longgen.data.synthetic.corpus`).
        shuffle_rows: of every length, in random order: where documents are far longer than rows, neighbouring rows are
            otherwise of one document. Not for ``buckets``, whose rows are. Our choice.
        seed: of all random choices.
        workers: processes that tokenise; 1 tokenises in the process itself.
        shard_tokens: tokens per file, and roughly what is held in memory. Our choice.
        max_bad_fraction: more unreadable records than this share of a source are an error. Our choice.
    """

    name: str
    sources: list[LongSourceSettings]
    tokenizer: str
    method: str
    lengths: list[int]
    token_budget: int
    length_shares: list[float] | None = None
    upsampling: UpsamplingSettings = field(default_factory=UpsamplingSettings)
    lookups: LookupSettings | None = None
    mixture: dict[str, float] | None = None
    begin_with_bos: bool = True
    end_with_eos: bool = True
    shuffle_rows: bool = False
    seed: int = 0
    workers: int = 1
    shard_tokens: int = 1 << 25
    max_bad_fraction: float = 0.001

    def __post_init__(self) -> None:
        check_run_name(self.name)
        names = [source.name for source in self.sources]
        require(len(names) > 0 and len(set(names)) == len(names), "sources", names, "at least one, each name once")
        require(len(self.lengths) > 0, "lengths", self.lengths, "at least one length")
        in_range, are_distinct = all(2 <= n < 2**31 for n in self.lengths), len(set(self.lengths)) == len(self.lengths)
        require(in_range and are_distinct, "lengths", self.lengths, "whole numbers of tokens >= 2, each once")
        shares = self.length_shares
        require(
            shares is None or (len(shares) == len(self.lengths) and _are_shares(shares)),
            "length_shares",
            shares,
            f"{len(self.lengths)} shares > 0 that add up to 1, or null",
        )
        least = min(self.lengths)
        require(self.token_budget >= least, "token_budget", self.token_budget, f"a number >= {least}, one row")
        if self.method != "buckets":
            has_all_lengths = min(self.rows.values()) > 0
            require(has_all_lengths, "token_budget", self.token_budget, "enough for a row of every length")
        for name in ("workers", "shard_tokens"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        require(self.seed >= 0, "seed", self.seed, "a whole number >= 0")
        require(0 <= self.max_bad_fraction <= 1, "max_bad_fraction", self.max_bad_fraction, "a number within 0..1")
        if self.mixture is not None:
            are_shares = _are_shares(self.mixture.values())
            require(are_shares, "mixture", self.mixture, "shares > 0 that add up to 1")

    @property
    def rows(self) -> dict[int, int]:
        """Rows of every length, for all methods but ``buckets``."""
        shares = self.length_shares or [1 / len(self.lengths)] * len(self.lengths)
        return {
            each: int(share * self.token_budget + 0.5) // each for each, share in zip(self.lengths, shares, strict=True)
        }

    @property
    def tokens(self) -> int:
        """Tokens that are written: the budget without what is less than a whole row."""
        if self.method == "buckets":
            return self.token_budget // min(self.lengths) * min(self.lengths)
        return sum(length * count for length, count in self.rows.items())

    def identity(self) -> dict[str, Any]:
        """All that determines what is written, as plain data."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in FREE}


def _are_shares(values: Collection[float]) -> bool:
    return all(value > 0 for value in values) and abs(sum(values) - 1) < 1e-3
