"""How blocked attention cuts a call: which slices of the keys each chunk of queries needs, and where it must mask."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from longgen.pattern import SparsePattern

# Queries per chunk: about half a window, within these bounds. Fewer queries make small matrix products and many calls,
# more see more keys in vain; on CPU the time is flat in between (within 5 % from 64 to 192 at a window of 1,024).
FEWEST_QUERIES, MOST_QUERIES = 32, 128


class Edge(NamedTuple):
    """Adjacent keys of a chunk that only some of its queries see.

    Attributes:
        keys: which, counted among the chunk's own: its far keys, then its near ones.
        bias: [rows, keys] float32 to add to the scores: 0 where seen, -inf elsewhere.
    """

    keys: slice
    bias: torch.Tensor


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
    def scores(self) -> int:
        """Rows times keys."""
        return (self.rows.stop - self.rows.start) * (self.far + self.near.stop - self.near.start)


class Plan(NamedTuple):
    """The chunks of one call.

    Attributes:
        far: which of the call's keys some queries see across a gap (sink and strided blocks), ascending: int64 indices,
            or a slice where they are adjacent.
        chunks: in order of their queries.
    """

    far: torch.Tensor | slice
    chunks: tuple[Chunk, ...]


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # training may take over a plan that evaluation made: its tensors must not be bound to it
def plan_chunks(
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    q_len: int,
    pruned: bool,
    group_size: int,
    device: str,
) -> Plan:
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
        device: where to put indices and masks.
    """
    end = query_offset + q_len
    past = pattern.kept_positions(query_offset, head_offset) if pruned else np.arange(query_offset)
    positions = np.concatenate([past, np.arange(query_offset, end)])
    key_blocks = positions // pattern.block_size
    seen_last = np.flatnonzero(pattern.visible((end - 1) // pattern.block_size, key_blocks, head_offset))
    biases: dict[bytes, torch.Tensor] = {}
    chunks = []
    width = _width(pattern)
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
                among = slice(int(far + keys.start - near.start), int(far + keys.stop - near.start))
                edges.append(Edge(among, _shared_bias(seen.repeat(group_size, axis=0), device, biases)))
        rows = slice((start - query_offset) * group_size, (stop - query_offset) * group_size)
        chunks.append(Chunk(rows, far, near, tuple(edges)))
        start = stop
    return Plan(_slice_or_indices(seen_last[: chunks[-1].far], device), tuple(chunks))


def _width(pattern: SparsePattern) -> int:
    """Queries per chunk: whole blocks, at least one."""
    tokens = min(max(pattern.block_size * pattern.local_blocks // 2, FEWEST_QUERIES), MOST_QUERIES)
    return pattern.block_size * max(1, tokens // pattern.block_size)


def _shared_bias(seen: np.ndarray, device: str, biases: dict[bytes, torch.Tensor]) -> torch.Tensor:
    """The bias that hides what is not ``seen`` [rows, keys]; made once for all chunks that see alike."""
    content = len(seen).to_bytes(8) + seen.tobytes()
    if content not in biases:
        biases[content] = torch.from_numpy(np.where(seen, np.float32(0), np.float32(-np.inf))).to(device)
    return biases[content]


def _slice_or_indices(indices: np.ndarray, device: str) -> torch.Tensor | slice:
    """Ascending ``indices`` as a slice if they are adjacent, for slicing copies nothing."""
    if not len(indices):
        return slice(0)
    start, stop = int(indices[0]), int(indices[-1]) + 1
    return slice(start, stop) if stop - start == len(indices) else torch.from_numpy(indices).to(device)
