"""First half of packing: read the sources, tokenise, and store documents in shards; resumable after each shard.

A shard is a folder with ``tokens.bin`` (ids of all its documents), ``lengths.npy`` (int64), ``domains.npy`` (int32,
into the list in ``shard.json``), ``hashes.npy`` (uint64, two per document), and ``shard.json``: counts by source, and
where to go on reading. It ends with the block of documents that fills it, so that it depends on the sources alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from longgen.data.packing.encoding import EncodeBlocks, TokenizedDocuments, block_encoder
from longgen.data.packing.readers import READERS, Block, read_blocks
from longgen.data.packing.settings import LongSourceSettings, PackSettings
from longgen.data.packing.shards import finished_shards, new_shard, shard_path
from longgen.data.packing.tally import EXAMPLES, Tally
from longgen.data.packing.tokenizers import TokenizerFacts
from longgen.files import read_mapping, write_json
from longgen.progress import progress_bar

SHARD_FILE = "shard.json"
_MADE_BY = "longgen pack"


def read_shard_file(shard: Path) -> dict[str, Any]:
    """The JSON of a shard of documents."""
    return read_mapping(shard / SHARD_FILE, _MADE_BY, tallies=dict, domains=list, seconds=float)


class _ShardWriter:
    """Collects documents in memory and writes them, shard after shard."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._clear()

    def _clear(self) -> None:
        self.tokens, self._started = 0, time.monotonic()
        self._parts: list[TokenizedDocuments] = []
        self._names: list[str] = []  # of domains, in order of appearance
        self._domains: list[int] = []
        self._tallies: dict[str, Tally] = {}

    def add(self, source: str, block: Block, tokenized: TokenizedDocuments) -> dict[str, Any]:
        """Take a tokenised block; its counts, as the fields of a `Tally`."""
        bad = [str(record) for record in block.bad]
        records, tokens = len(block.documents) + len(bad), len(tokenized.tokens)
        counts = {"records": records, "tokens": tokens, "bad": len(bad), "examples": bad[:EXAMPLES]}
        self._tallies.setdefault(source, Tally()).add(counts)
        self._parts.append(tokenized)
        self.tokens += tokens
        for document in block.documents:
            if document.domain not in self._names:
                self._names.append(document.domain)
            self._domains.append(self._names.index(document.domain))
        return counts

    def write(self, source: int, state: dict[str, Any] | None) -> None:
        """Write a shard, with the number of the source and the reader's state to go on from."""
        manifest = {
            "source": source,
            "state": state,
            "domains": self._names,
            "tallies": {name: asdict(tally) for name, tally in self._tallies.items()},
            "seconds": time.monotonic() - self._started,
        }
        lengths = [part.lengths for part in self._parts]
        hashes = [part.hashes for part in self._parts]
        with new_shard(shard_path(self._folder, self._number)) as temporary:
            with (temporary / "tokens.bin").open("wb") as file:
                for part in self._parts:
                    file.write(part.tokens.data)
            np.save(temporary / "lengths.npy", np.concatenate([*lengths, np.empty(0, np.int64)]))
            np.save(temporary / "domains.npy", np.array(self._domains, np.int32))
            np.save(temporary / "hashes.npy", np.concatenate([*hashes, np.empty((0, 2), np.uint64)]))
            write_json(temporary / SHARD_FILE, manifest)
        self._number += 1
        self._clear()


def read_tallies(shards: list[Path], settings: PackSettings) -> dict[str, Tally]:
    """Counts of every source over ``shards``."""
    tallies = {source.name: Tally() for source in settings.sources}
    for shard in shards:
        for name, counts in read_shard_file(shard)["tallies"].items():
            tallies[name].add(counts)
    return tallies


def tokenise(settings: PackSettings, facts: TokenizerFacts, folder: Path) -> None:
    """Read and tokenise all sources into shards below ``folder``, going on where an earlier call ended.

    Raises:
        ArtifactError: files are missing or broken, too many records are bad, or the disk is full.
    """
    shards, sources = finished_shards(folder), settings.sources
    tallies = read_tallies(shards, settings)
    last = read_shard_file(shards[-1]) if shards else {}
    begun: int = last.get("source", 0)
    if begun == len(sources):
        return
    limits = [source.max_tokens or 0 for source in sources]
    total = sum(limits) if all(limits) else 0  # 0: unknown
    before = sum(tally.tokens for tally in tallies.values())
    writer = _ShardWriter(folder, len(shards))
    with (
        block_encoder(facts, settings.workers) as encode,
        progress_bar(total, "tokenising", "token", before) as bar,
    ):
        for index in range(begun, len(sources)):
            source, tally = sources[index], tallies[sources[index].name]
            state = last.get("state") if index == begun else None
            for block, tokenized in _tokenized_blocks(source, tally, state, encode):
                counts = writer.add(source.name, block, tokenized)
                tally.add(counts)
                tally.check(source.name, settings.max_bad_fraction, finished=False)
                bar.update(counts["tokens"])
                if writer.tokens >= settings.shard_tokens:
                    writer.write(index, block.state)
            tally.check(source.name, settings.max_bad_fraction, finished=True)
        writer.write(len(sources), None)


def _tokenized_blocks(
    source: LongSourceSettings, tally: Tally, state: dict[str, Any] | None, encode: EncodeBlocks
) -> Iterator[tuple[Block, TokenizedDocuments]]:
    """Blocks of ``source`` from ``state`` on, until ``tally``, which the caller counts, reaches its ``max_tokens``."""
    enough = math.inf if source.max_tokens is None else source.max_tokens
    if tally.tokens >= enough:
        return
    for pair in encode(read_blocks(READERS[source.kind](source, state))):
        yield pair
        if tally.tokens >= enough:
            return
