"""The documents that were read: lengths, domains and duplicates in memory, tokens on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longgen.data.packing.documents import read_shard_file
from longgen.errors import ArtifactError


@dataclass(frozen=True)
class DocumentTable:
    """All documents in reading order. At most about 100 bytes per document in memory, whatever their length.

    Attributes:
        names: domains, sorted.
        domains: [documents] int32, index into ``names``.
        lengths: [documents] int64 tokens, with BOS and EOS.
        unique: [documents] bool, False where an earlier document has the same text.
        shards: folders of the tokens.
        first: [shards + 1] int64, number of the first document of each shard.
        offsets: [documents] int64, where a document begins among the tokens of its shard.
        dtype: of the tokens on disk.
    """

    names: list[str]
    domains: np.ndarray
    lengths: np.ndarray
    unique: np.ndarray
    shards: list[Path]
    first: np.ndarray
    offsets: np.ndarray
    dtype: str

    def tokens(self, document: int, start: int, stop: int) -> np.ndarray:
        """Token ids ``start`` to ``stop`` of a document. Read and not mapped: mapped pages would count as memory."""
        shard = int(np.searchsorted(self.first, document, side="right")) - 1
        offset = (int(self.offsets[document]) + start) * np.dtype(self.dtype).itemsize
        return np.fromfile(self.shards[shard] / "tokens.bin", self.dtype, stop - start, offset=offset)


def first_of_each(hashes: np.ndarray) -> np.ndarray:
    """[documents] bool: True where a pair of hashes [documents, 2] occurs for the first time."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal ones stay in reading order
    in_order = hashes[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    unique = np.empty(len(hashes), bool)
    unique[order] = new
    return unique


def load_table(shards: list[Path], dtype: str) -> DocumentTable:
    """Read what `longgen.data.packing.documents.tokenise` wrote.

    Raises:
        ArtifactError: a shard is damaged, or there is no document at all.
    """
    names_by_shard = [read_shard_file(shard)["domains"] for shard in shards]
    names = sorted({name for shard_names in names_by_shard for name in shard_names})
    domains, lengths, offsets, hashes = [], [], [], []
    for shard, shard_names in zip(shards, names_by_shard, strict=True):
        try:
            in_shard = [np.load(shard / f"{part}.npy", allow_pickle=False) for part in ("domains", "lengths", "hashes")]
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{shard} is damaged ({error}): delete it, `longgen pack` remakes it") from None
        size, expected = (shard / "tokens.bin").stat().st_size, int(in_shard[1].sum()) * np.dtype(dtype).itemsize
        if size != expected:
            raise ArtifactError(
                f"{shard / 'tokens.bin'} has {size} bytes instead of {expected}: "
                f"delete {shard}, `longgen pack` remakes it"
            )
        domains.append(np.array([names.index(name) for name in shard_names], np.int32)[in_shard[0]])
        lengths.append(in_shard[1])
        offsets.append(np.cumsum(in_shard[1]) - in_shard[1])
        hashes.append(in_shard[2])
    first = np.cumsum([0, *(len(each) for each in lengths)])
    if first[-1] == 0:
        raise ArtifactError("the sources hold no document: allowed is at least one")
    unique = first_of_each(np.concatenate(hashes))
    return DocumentTable(
        names, np.concatenate(domains), np.concatenate(lengths), unique, shards, first, np.concatenate(offsets), dtype
    )
