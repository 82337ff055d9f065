"""What one call of attention is to compute, apart from its tensors; and how a call is cut into simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from longgen.pattern import SparsePattern


@dataclass(frozen=True)
class PackedDocuments:
    """Documents that stand one after another in the one row of a batch, and do not attend across.

    The names are those of flash-attn's variable-length functions.

    Attributes:
        cu_seqlens: [documents + 1] int32 on the device of the tokens: where each begins, then
            the number of tokens.
        max_seqlen: tokens of the longest.
    """

    cu_seqlens: torch.Tensor
    max_seqlen: int

    @classmethod
    def of_lengths(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> PackedDocuments:
        """Documents of so many tokens each.

        Raises:
            ValueError: none, or a length below 1.
        """
        if not lengths or min(lengths) < 1:
            raise ValueError(f"lengths of packed documents are {list(lengths)}: allowed are one or more, each >= 1")
        ends = torch.tensor([0, *lengths]).cumsum(0)
        return cls(ends.to(device=device, dtype=torch.int32), max(lengths))

    def slices(self) -> list[slice]:
        """Where every document stands. Waits for the device."""
        return [slice(start, end) for start, end in pairwise(self.cu_seqlens.tolist())]


@dataclass(frozen=True)
class AttentionCall:
    """What one call of sparse attention computes; see `longgen.attention.sparse_attention`.

    Attributes:
        pattern: who sees whom.
        scale: softmax scale.
        query_offset: position of the first query.
        head_offsets: where the strided blocks stand, for every KV head.
        pruned: the keys are those of a pruned cache, then the new tokens; else all positions from 0.
        packed: the documents of a row; None for one document per row.
    """

    pattern: SparsePattern
    scale: float
    query_offset: int
    head_offsets: tuple[int, ...]
    pruned: bool = False
    packed: PackedDocuments | None = None

    @property
    def head_offset(self) -> int:
        """The one head offset of a call whose heads all see the same."""
        (offset,) = set(self.head_offsets)
        return offset


Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, AttentionCall], torch.Tensor]


def one_by_one(attend: Attend) -> Attend:
    """``attend`` for every document and every head offset by itself: for a backend that knows neither."""

    def attend_parts(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
        if call.packed is not None:
            unpacked = replace(call, packed=None)
            parts = [
                attend_parts(query[:, :, part], key[:, :, part], value[:, :, part], unpacked)
                for part in call.packed.slices()
            ]
            return torch.cat(parts, dim=2)
        if len(set(call.head_offsets)) == 1:
            return attend(query, key, value, call)
        group_size = query.shape[1] // key.shape[1]
        order, parts = [], []
        for offset in dict.fromkeys(call.head_offsets):
            heads = [head for head, head_offset in enumerate(call.head_offsets) if head_offset == offset]
            members = [head * group_size + member for head in heads for member in range(group_size)]
            same = replace(call, head_offsets=(offset,) * len(heads))
            parts.append(attend(query[:, members], key[:, heads], value[:, heads], same))
            order += members
        back = torch.tensor(order).argsort().to(query.device)
        return torch.cat(parts, dim=1)[:, back]

    return attend_parts
