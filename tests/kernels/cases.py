"""Random inputs of the kernels, and what they must give: a dense float64 reference that knows only the rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from hypothesis import strategies as st

from longgen.attention.call import AttentionCall, PackedDocuments
from longgen.pattern import SparsePattern

patterns = st.builds(
    SparsePattern,
    block_size=st.sampled_from([16, 32, 48]),
    sink_blocks=st.integers(0, 3),
    local_blocks=st.integers(1, 4),
    stride=st.sampled_from([0, 2, 3, 5]),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One call."""

    pattern: SparsePattern
    offset: int
    q_len: int
    batch: int
    kv_heads: int
    group: int
    head_dim: int
    head_offset: int
    staggered: bool
    seed: int

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5

    @property
    def offsets(self) -> list[int]:
        """Head offset of every KV head."""
        own = [head * self.pattern.stride // self.kv_heads if self.staggered else 0 for head in range(self.kv_heads)]
        return [self.head_offset + offset for offset in own]

    def call(self, pruned: bool = False, packed: PackedDocuments | None = None) -> AttentionCall:
        return AttentionCall(self.pattern, self.scale, self.offset, tuple(self.offsets), pruned, packed)


cases = st.builds(
    Case,
    pattern=patterns,
    offset=st.sampled_from([0, 0, 1, 37, 96, 150]),
    q_len=st.integers(1, 150),
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    head_dim=st.sampled_from([16, 24, 64]),
    head_offset=st.integers(0, 2),
    staggered=st.booleans(),
    seed=st.integers(0, 2**16),
)


def inputs(case: Case, dtype: torch.dtype = torch.float32, spread: float = 2.0) -> list[torch.Tensor]:
    """Query, key and value, the last two for all positions; laid out with a token's heads adjacent, as models do."""
    generator = torch.Generator().manual_seed(case.seed)
    heads, kv_len = case.kv_heads * case.group, case.offset + case.q_len
    shapes = [(case.batch, case.q_len, heads, case.head_dim)] + [(case.batch, kv_len, case.kv_heads, case.head_dim)] * 2
    return [(torch.randn(shape, generator=generator) * spread).to(dtype).transpose(1, 2) for shape in shapes]


def dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, case: Case, documents: np.ndarray | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and LSE in float64. ``documents`` [q_len] says to which packed document a token belongs."""
    size = case.pattern.block_size
    rows = np.arange(case.offset, case.offset + case.q_len)
    columns = np.arange(key.shape[2])
    if documents is not None:
        first = np.array([np.flatnonzero(documents == document)[0] for document in documents])
        rows, columns = rows - first, columns - first
    masks = []
    for head_offset in case.offsets:
        mask = case.pattern.visible(rows[:, None] // size, columns[None] // size, head_offset)
        mask &= columns[None] <= rows[:, None]
        if documents is not None:
            mask &= documents[:, None] == documents[None]
        masks.append(mask)
    allowed = torch.from_numpy(np.stack(masks)).repeat_interleave(case.group, 0)
    key, value = (states.double().repeat_interleave(case.group, 1) for states in (key, value))
    scores = (query.double() @ key.transpose(-1, -2) * case.scale).masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1) @ value, scores.logsumexp(-1)
