"""How blocked attention cuts a call: which slices of the keys each chunk of queries needs, and where it must mask."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from longgen.pattern import SparsePattern

# Queries per chunk: about half a window, at least so many, and at most as many as make so many rows for the query heads
# that share a KV head, but no fewer than 128. Fewer rows make small matrix products and many calls, more see more keys
# in vain; on a CPU the time is flat in between (in float32 within 5 % from 64 to 192 queries at a window of 1,024). The
# processor's units for bfloat16 need more rows: from 128 to 256 the time falls by 10 %.
FEWEST_QUERIES, MOST_ROWS, BFLOAT16_ROWS = 32, 128, 256
FEWEST_KEYS = 64  # of a tile; our choice


class Edge(NamedTuple):
    """Adjacent keys of a chunk that only some of its queries see.

    Attributes:
        keys: which, counted among the chunk's near ones, or those of a tile.
        hidden: [keys, rows] bool: whether the row does not see the key.
    """

    keys: slice
    hidden: torch.Tensor


class Chunk(NamedTuple):
    """What some adjacent queries attend to.

    Attributes:
        rows: which, counted from the call's first; a position counts as often as query heads share a KV head.
        far: how many of the plan's far keys they see, from the first on; all of these queries see all of these keys.
        near: which of the call's keys they see beside those.
        edges: where among the near keys not all queries see all.
    """

    rows: slice
    far: int
    near: slice
    edges: tuple[Edge, ...]

    @property
    def keys(self) -> int:
        """How many: the near ones, then the far ones."""
        return self.near.stop - self.near.start + self.far

    @property
    def scores(self) -> int:
        """Rows times keys."""
        return (self.rows.stop - self.rows.start) * self.keys

    def is_masked_like(self, other: Chunk) -> bool:
        """Whether the same mask hides the same of both."""
        edges = ([(edge.keys, id(edge.hidden)) for edge in chunk.edges] for chunk in (self, other))
        return self.keys == other.keys and next(edges) == next(edges)

    def tiles(self, most_scores: int) -> Iterator[KeyTile]:
        """The chunk's keys in slices of about equal size, of so many scores at most where more than `FEWEST_KEYS`."""
        most_keys = max(FEWEST_KEYS, most_scores // (self.rows.stop - self.rows.start))
        for is_far, keys in ((False, self.near), (True, slice(0, self.far))):
            count = -(-(keys.stop - keys.start) // most_keys)
            size = -(-(keys.stop - keys.start) // max(1, count))
            for start in range(keys.start, keys.stop, max(1, size)):
                tile_keys = slice(start, min(start + size, keys.stop))
                yield KeyTile(is_far, tile_keys, () if is_far else self._edges_of(tile_keys))

    def _edges_of(self, tile_keys: slice) -> tuple[Edge, ...]:
        edges = []
        for keys, hidden in self.edges:
            first = tile_keys.start - self.near.start
            start, stop = max(keys.start, first), min(keys.stop, tile_keys.stop - self.near.start)
            if start < stop:
                among = slice(start - first, stop - first)
                edges.append(Edge(among, hidden[start - keys.start : stop - keys.start]))
        return tuple(edges)


class KeyTile(NamedTuple):
    """Some of the keys that a chunk sees.

    Attributes:
        is_far: whether they are far keys, of which the chunk's queries see all.
        keys: which of the plan's far keys, or of the call's keys.
        edges: where among them not all queries see all.
    """

    is_far: bool
    keys: slice
    edges: tuple[Edge, ...]


class ChunkPlan(NamedTuple):
    """The chunks of one call.

    Attributes:
        far: which of the call's keys some queries see across a gap (sink and strided blocks), ascending: int64 indices,
            or a slice where they are adjacent.
        chunks: in order of their queries.
    """

    far: torch.Tensor | slice
    chunks: tuple[Chunk, ...]


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # training may use a plan that evaluation made: its tensors must not be inference tensors
def plan_chunks(
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    q_len: int,
    pruned: bool,
    group_size: int,
    most_rows: int,
    device: str,
) -> ChunkPlan:
    """The plan of one call; the same for all layers and steps, hence cached.

    It takes little memory: chunks far enough from the start share their masks, which cover only the edges of sight.

    Args:
        pattern: who sees whom.
        query_offset: position of the first query.
        head_offset: where the strided blocks of these heads stand.
        q_len: number of queries, at least 1.
        pruned: whether the keys are a pruned cache (`SparsePattern.kept_positions` of ``query_offset``, then the new
            tokens) rather than all positions from 0.
        group_size: query heads that share a KV head.
        most_rows: `MOST_ROWS` or `BFLOAT16_ROWS`.
        device: where to put indices and masks.
    """
    end = query_offset + q_len
    past = pattern.kept_positions(query_offset, head_offset) if pruned else np.arange(query_offset)
    positions = np.concatenate([past, np.arange(query_offset, end)])
    key_blocks = positions // pattern.block_size
    seen_last = np.flatnonzero(pattern.visible((end - 1) // pattern.block_size, key_blocks, head_offset))
    masks: dict[bytes, torch.Tensor] = {}
    chunks = []
    width = _width(pattern, most_rows // group_size)
    start = query_offset
    while start < end:
        stop = min((start // width + 1) * width, end)
        first_block, last_block = start // pattern.block_size, (stop - 1) // pattern.block_size
        own = len(past) + start - query_offset  # the key of the first query
        # Near keys reach back to the first gap. What is seen beyond it, sink and strided blocks, stays in sight for
        # good: the last query of the call sees it too.
        unseen = np.flatnonzero(~pattern.visible(first_block, key_blocks[:own], head_offset))
        near = slice(int(unseen[-1]) + 1 if len(unseen) else 0, own + stop - start)
        far = int(np.searchsorted(seen_last, near.start))
        leaving = near.start + np.flatnonzero(~pattern.visible(last_block, key_blocks[near.start : own], head_offset))
        edges = []
        for keys in (slice(leaving[0], leaving[-1] + 1) if len(leaving) else slice(0), slice(own, near.stop)):
            seen = pattern.allowed(np.arange(start, stop)[:, None], positions[keys][None, :], head_offset)
            if not seen.all():
                among = slice(int(keys.start - near.start), int(keys.stop - near.start))
                edges.append(Edge(among, _shared_mask(~seen.repeat(group_size, axis=0).T, device, masks)))
        rows = slice((start - query_offset) * group_size, (stop - query_offset) * group_size)
        chunks.append(Chunk(rows, far, near, tuple(edges)))
        start = stop
    return ChunkPlan(_slice_or_indices(seen_last[: chunks[-1].far], device), tuple(chunks))


def _width(pattern: SparsePattern, most_queries: int) -> int:
    """Queries per chunk: whole blocks, at least one."""
    half_window = pattern.block_size * pattern.local_blocks // 2
    tokens = min(max(half_window, FEWEST_QUERIES), max(most_queries, MOST_ROWS))
    return pattern.block_size * max(1, tokens // pattern.block_size)


def _shared_mask(hidden: np.ndarray, device: str, masks: dict[bytes, torch.Tensor]) -> torch.Tensor:
    """``hidden`` [keys, rows] as a tensor; one for all chunks in which it is the same."""
    content = len(hidden).to_bytes(8) + hidden.tobytes()
    if content not in masks:
        masks[content] = torch.from_numpy(np.ascontiguousarray(hidden)).to(device)
    return masks[content]


def _slice_or_indices(indices: np.ndarray, device: str) -> torch.Tensor | slice:
    """Ascending ``indices`` as a slice if they are adjacent, for slicing copies nothing."""
    if not len(indices):
        return slice(0)
    start, stop = int(indices[0]), int(indices[-1]) + 1
    return slice(start, stop) if stop - start == len(indices) else torch.from_numpy(indices).to(device)
