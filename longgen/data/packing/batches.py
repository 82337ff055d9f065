"""Packed rows as training reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from longgen.attention import PackedDocuments
from longgen.data.batch import Batch
from longgen.data.packing.packed import PackedRows


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
