"""Records of packings, probes and publications."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.records.schema import column

_BUCKET = "tokens per document, the end excluded; null: no end"
_READ = "before, duplicates included"
_DUPLICATE = "of these, dropped because an earlier document has the same text"
_USED = "after; a document that is used n times counts n times, in the bucket of its whole length"
_TIME = "of all steps, interrupted shards excepted; `tokens_read` over that; of the sum alone"
_ADDED = (
    "of `alone` what is sparse; of `greedy` and `candidate` what was added last, the first of a group of heads; else "
    "null. `head` is null by layers"
)
_ORIGIN = "of the published file"


@dataclass(frozen=True)
class PackingRecord:
    """A domain and length bucket; a source with bad records; or the sum."""

    domain: str | None = column("value of `source_field`, or name of the source; null: the sum")
    length_low: int | None = column(_BUCKET)
    length_high: int | None = column(_BUCKET)
    documents_read: int = column(_READ)
    tokens_read: int = column(_READ)
    documents_duplicate: int = column(_DUPLICATE)
    tokens_duplicate: int = column(_DUPLICATE)
    documents_used: int = column(_USED)
    tokens_used: int = column(_USED)
    tokens_wasted: int = column("of the documents used, what was cut off")
    bad_records: int = column("records that were no documents")
    seconds: float | None = column(_TIME)
    tokens_per_second: float | None = column(_TIME)
    workers: int | None = column("processes that tokenised, in the call that finished it; of the sum alone")


@dataclass(frozen=True)
class ProbeRecord:
    """A set of full layers or heads, and what it costs."""

    by: str = column("`layers` or `heads`: what was made sparse as a whole")
    set: str = column(
        "`full` and `sparse`: all of them; `alone`: one is sparse and all others full; `ranked`: those that cost most "
        "alone are full; `greedy`: those chosen one by one; `candidate`: considered in a step of that, and not chosen; "
        "or a placement, such as `middle`"
    )
    full_layers: float = column("layers' worth of full attention")
    layer: int | None = column(_ADDED)
    head: int | None = column(_ADDED)
    layout: str = column(
        "one letter per layer from the bottom up, f for full, s for sparse; in brackets, of every KV head"
    )
    n: int = column("prompts")
    answer_losses: list[float] = column(
        "for every prompt, the same in all records and in the same order: mean cross-entropy of the answers' tokens in "
        "nats per token"
    )
    text_losses: list[float] = column("likewise of 256 tokens of its plain text")


@dataclass(frozen=True)
class PublicationRecord:
    """A file that was published, and where it came from."""

    file: str = column(_ORIGIN)
    kind: str = column(_ORIGIN)
    run: str = column(_ORIGIN)
    variant: str | None = column(_ORIGIN)
    git_commit: str = column("that measured it, and whether there were uncommitted changes")
    git_dirty: bool = column("that measured it, and whether there were uncommitted changes")
    seed: int | None = column("of its provenance")
    device: str = column("of its provenance")
    date: str = column("of its provenance")
