"""A pattern in the blocks of a serving engine, which may be smaller than its own: which stay, which a query sees.

Without PyTorch, and without an engine: block managers and builders of attention metadata ask here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from longgen.errors import ConfigError
from longgen.pattern import SparsePattern

Numbers = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]


def check_block_size(pattern: SparsePattern, block_size: int) -> None:
    """Check that blocks of the engine go in or out of sight as a whole.

    Raises:
        ConfigError: ``block_size`` does not divide the pattern's.
    """
    if block_size < 1 or pattern.block_size % block_size:
        allowed = [size for size in range(16, pattern.block_size + 1, 16) if pattern.block_size % size == 0]
        raise ConfigError(
            f"the engine's block size is {block_size}, the pattern's is {pattern.block_size}: allowed is a divisor of "
            f"the pattern's, such as {', '.join(map(str, allowed)) or pattern.block_size}"
        )


def blocks_in_sight(pattern: SparsePattern, block_size: int, position: int) -> Flags:
    """Which of the engine's blocks, the one of ``position`` included, the query at ``position`` sees.

    What is False no later query sees either: it can be freed.
    """
    blocks = np.arange(position // block_size + 1)
    in_sight: Flags = pattern.visible(position // pattern.block_size, blocks * block_size // pattern.block_size)
    return in_sight


def blocks_held(pattern: SparsePattern, block_size: int, past: int, new: int) -> int:
    """How many blocks of the engine a sequence holds while ``new`` tokens are computed after ``past`` ones."""
    return -(-(pattern.kept_count(past) + new) // block_size)


def most_blocks_held(pattern: SparsePattern, block_size: int, length: int, in_flight: int) -> int:
    """A bound of `blocks_held` for a sequence of up to ``length`` tokens, of which ``in_flight`` are new at most."""
    # most are held with as many new tokens as there can be: a token more that is kept is a new one less
    past = max(0, length - in_flight)
    kv_tokens = pattern.kept_count(past // pattern.block_size * pattern.block_size) + pattern.block_size - 1
    return -(-min(length, kv_tokens + in_flight) // block_size)


class QueryPieces(NamedTuple):
    """The queries of a batch, cut where a block of the pattern ends: all queries of a piece see the same blocks.

    To a kernel a piece is a request of its own, whose past is the blocks that it sees and nothing else, and whose
    queries are the last of its tokens: with keys that were rotated before they were stored, that is causal attention as
    ever.

    Attributes:
        request: [pieces] whose queries they are.
        query_starts: [pieces + 1] int32: where the queries of a piece begin, in the order of the batch.
        lengths: [pieces] int32: tokens in the blocks that a piece sees, up to its last query.
        blocks: [pieces, most blocks] int64: these blocks, as columns of the request's block table, ascending; 0 after
            them.
    """

    request: npt.NDArray[np.int64]
    query_starts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    blocks: npt.NDArray[np.int64]


def cut_queries(pattern: SparsePattern, block_size: int, query_starts: Numbers, lengths: Numbers) -> QueryPieces:
    """Cut the queries of a batch.

    Args:
        pattern: of the layer.
        block_size: of the engine; divides the pattern's.
        query_starts: [requests + 1] where the queries of a request begin, from 0; a request may have none.
        lengths: [requests] tokens of a request so far, its queries included.
    """
    own, lengths = pattern.block_size, lengths.astype(np.int64)
    first = lengths - np.diff(query_starts)  # position of the first query
    counts = np.where(first < lengths, (lengths - 1) // own - first // own + 1, 0)
    request = np.repeat(np.arange(len(lengths)), counts)
    rank = np.arange(len(request)) - np.repeat(np.cumsum(counts) - counts, counts)
    query_block = first[request] // own + rank
    begin = np.maximum(query_block * own, first[request])
    end = np.minimum((query_block + 1) * own, lengths[request])
    starts = np.concatenate([[0], np.cumsum(end - begin)])

    columns = np.arange(-(-int(end.max(initial=1)) // block_size))
    sees = pattern.visible(query_block[:, None], columns * block_size // own) & (columns * block_size < end[:, None])
    amounts = sees.sum(1)
    blocks = np.zeros((len(request), int(amounts.max(initial=1))), np.int64)
    piece, column = np.nonzero(sees)
    blocks[piece, np.arange(len(piece)) - np.repeat(np.cumsum(amounts) - amounts, amounts)] = column
    # all blocks but the last are full
    token_counts = (amounts - 1) * block_size + (end - 1) % block_size + 1
    return QueryPieces(request, starts.astype(np.int32), token_counts.astype(np.int32), blocks)
