"""What one forward pass of training reads, of rows that were generated or packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from longgen.attention import PackedDocuments
from longgen.data.packing.packed import PackedRows


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


@dataclass(frozen=True)
class GeneratedRows:
    """Rows of one phase, as generated documents fill them.

    Attributes:
        tokens: [rows, length + 1] uint16: a row's inputs are all but its last token, its targets all but its first.
        weights: [rows, length + 1] float16: how much predicting each token counts.
    """

    tokens: np.ndarray
    weights: np.ndarray

    def batch(self, start: int, size: int) -> Batch:
        """Rows ``start`` to ``start + size``."""
        tokens = torch.from_numpy(self.tokens[start : start + size].astype(np.int64))
        weights = torch.from_numpy(self.weights[start : start + size, 1:].astype(np.float32))
        return Batch(tokens[:, :-1], tokens[:, 1:], weights)


@dataclass(frozen=True)
class DocumentRows:
    """The rows of a packing from ``first`` on.

    The last token of a row predicts nothing. Nor does that of a document where documents are separate.

    Attributes:
        rows: of one length.
        first: row that the phase begins with.
        separate: documents do not see each other; the rows of a batch then stand end to end in one.
        answer_weight: how much predicting a token of an answer counts; of other tokens it is 1.
    """

    rows: PackedRows
    first: int = 0
    separate: bool = True
    answer_weight: float = 1.0

    def batch(self, start: int, size: int) -> Batch:
        """Rows ``start`` to ``start + size``: [size, length], or where documents are separate [1, size * length]."""
        first = self.first + start
        tokens, cu_seqlens = self.rows.batch(range(first, first + size))
        weights = np.ones_like(tokens, np.float32)
        for row in range(size):
            for begin, end in self.rows.answers(first + row).tolist():
                weights[row, begin - 1 : end - 1] = self.answer_weight  # of the token before: it predicts the next
        weights[:, -1] = 0
        packed = None
        if self.separate:
            tokens, weights = tokens.reshape(1, -1), weights.reshape(1, -1)
            weights[0, cu_seqlens[1:] - 1] = 0
            packed = PackedDocuments(torch.from_numpy(cu_seqlens), int(np.diff(cu_seqlens).max()))
        inputs = torch.from_numpy(tokens)
        return Batch(inputs, inputs.roll(-1, 1), torch.from_numpy(weights), packed)
