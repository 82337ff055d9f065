"""What one forward pass of training reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from longgen.attention import PackedDocuments


@dataclass(frozen=True)
class Batch:
    """Tokens and what is to be predicted.

    Attributes:
        inputs: [rows, length] int64.
        targets: like ``inputs``, the next token of each position.
        weights: [rows, length] float32: how much each target counts; 0: not at all, above 1: it is an answer.
        packed: the documents of the only row, where they do not see each other.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    packed: PackedDocuments | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        packed = self.packed
        if packed is not None:
            packed = PackedDocuments(packed.cu_seqlens.to(device), packed.max_seqlen)
        return Batch(self.inputs.to(device), self.targets.to(device), self.weights.to(device), packed)


class TrainingRows(Protocol):
    """The rows of a phase, in the order in which they are used."""

    def batch(self, start: int, size: int) -> Batch:
        """Rows ``start`` to ``start + size``, in main memory."""
