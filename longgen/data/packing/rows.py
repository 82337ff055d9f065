"""Second half of packing: write the planned rows, shard by shard; a shard depends on the plan alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from longgen.data.packing.lookups import Lookups
from longgen.data.packing.methods import Stream
from longgen.data.packing.packed import RowShard, length_folder, rows_per_shard
from longgen.data.packing.shards import new_shard, shard_path
from longgen.data.packing.table import DocumentTable
from longgen.progress import progress_bar


def count_rows(stream: Stream) -> int:
    """Rows of a stream."""
    return int((stream.stops - stream.starts).sum()) // stream.length


def write_rows(
    streams: list[Stream], table: DocumentTable, shard_tokens: int, folder: Path, lookups: Lookups | None = None
) -> None:
    """Write the rows of all streams below ``folder``, leaving shards that are there as they are.

    Raises:
        ArtifactError: a shard that is there is damaged, or the disk is full.
        ConfigError: rows have no room for their look-ups.
    """
    total = sum(count_rows(stream) * stream.length for stream in streams)
    with progress_bar(total, "packing", "token") as bar:
        for stream in streams:
            rows, step = count_rows(stream), rows_per_shard(stream.length, shard_tokens)
            ends = np.cumsum(stream.stops - stream.starts)
            for number, first in enumerate(range(0, rows, step)):
                path = shard_path(length_folder(folder, stream.length), number)
                count = min(step, rows - first)
                if path.is_dir():
                    RowShard.open(path, count, stream.length)
                else:
                    _write_shard(stream, ends, table, first, count, path, lookups)
                bar.update(count * stream.length)


def _write_shard(
    stream: Stream,
    ends: np.ndarray,
    table: DocumentTable,
    first: int,
    rows: int,
    path: Path,
    lookups: Lookups | None,
) -> None:
    """Write the rows from ``first`` on of a stream, whose pieces end at ``ends``."""
    begin, size = first * stream.length, rows * stream.length
    flat = np.empty(size, table.dtype)
    piece = int(np.searchsorted(ends, begin, side="right"))
    edges = [0]
    while (place := edges[-1]) < size:
        start = int(stream.stops[piece] - (ends[piece] - begin - place))
        stop = min(int(stream.stops[piece]), start + size - place)
        flat[place : place + stop - start] = table.tokens(int(stream.documents[piece]), start, stop)
        edges.append(place + stop - start)
        piece += 1
    tokens = flat.reshape(rows, stream.length)
    edge = np.array(edges)
    answers = None
    if lookups is not None:
        answers, counts = lookups.scatter(tokens, first)
        # such a row is one sequence: an answer must see what it answers
        edge = edge[(edge % stream.length == 0) | (counts[np.minimum(edge // stream.length, rows - 1)] == 0)]
    cu_seqlens, offsets = row_boundaries(edge, rows, stream.length)
    with new_shard(path) as temporary:
        if answers is not None:
            np.save(temporary / "answers.npy", answers)
            np.save(temporary / "answer_offsets.npy", np.concatenate([[0], np.cumsum(counts)]))
        np.save(temporary / "tokens.npy", tokens)
        np.save(temporary / "cu_seqlens.npy", cu_seqlens)
        np.save(temporary / "offsets.npy", offsets)


def row_boundaries(edges: np.ndarray, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Boundaries of documents within each row.

    Args:
        edges: increasing offsets where pieces begin, from 0, and the end of the last, in tokens of the shard.
        rows: how many.
        length: tokens per row.

    Returns:
        the ``cu_seqlens`` of all rows one after another (int32, each from 0 to ``length``), and [rows + 1] int64
        where those of each row begin.
    """
    multiples = np.arange(rows + 1) * length
    edges = np.union1d(edges, multiples)
    first = np.searchsorted(edges, multiples)
    offsets = first + np.arange(rows + 1)  # an edge between two rows belongs to both
    row = np.repeat(np.arange(rows), np.diff(offsets))
    place = np.arange(len(row)) - row  # index into edges
    return (edges[place] - row * length).astype(np.int32), offsets.astype(np.int64)
