"""Padded batches: rows of different lengths, told apart by Hugging Face's 2-D attention mask.

A token that the mask hides does not exist for us: no block of the pattern, no position and no place in the cache is
spent on it, so that every row computes what it would compute alone.
"""

from __future__ import annotations

from typing import TypeAlias

import torch

POSITIONS_DO_NOT_RISE = "position_ids do not rise by one: allowed without a cache and without a mask (packed documents)"

# Where the real tokens of a row stand: a slice, or [tokens] int64 where there is padding between them.
TokenIndex: TypeAlias = "slice | torch.Tensor"


def real_tokens(mask: torch.Tensor) -> list[TokenIndex] | None:
    """Where each row's real tokens stand.

    Args:
        mask: [batch, tokens] booleans, False for padding.

    Returns:
        an entry per row, which may be empty; None where no token is padding.
    """
    if bool(mask.all()):
        return None
    counts, first = mask.sum(1), mask.int().argmax(1)
    last = mask.shape[1] - mask.flip(1).int().argmax(1)
    has_gap = (last - first != counts) & (counts > 0)
    columns = zip(first.tolist(), counts.tolist(), has_gap.tolist(), strict=True)
    return [
        mask[row].nonzero().flatten() if gap else slice(start, start + count)
        for row, (start, count, gap) in enumerate(columns)
    ]


def token_count(tokens: TokenIndex) -> int:
    """How many tokens ``tokens`` selects."""
    return int(tokens.stop - tokens.start) if isinstance(tokens, slice) else len(tokens)


def positions_in_rows(
    inputs: torch.Tensor, new: torch.Tensor | None, first: torch.Tensor | int, position_ids: torch.Tensor | None
) -> torch.Tensor:
    """Position ids [batch, q_len] that count real tokens only.

    Args:
        inputs: [batch, q_len] or [batch, q_len, hidden size], this call's input.
        new: [batch, q_len] booleans, the mask of these tokens; None where all are real.
        first: position of every row's first real token, [batch, 1] or one number; ``position_ids`` win over it.
        position_ids: the caller's own, [batch or 1, q_len], of which that of the first real token counts.
    """
    batch, q_len = inputs.shape[:2]
    if new is None:
        new = torch.ones(batch, q_len, dtype=torch.bool, device=inputs.device)
    if position_ids is not None:
        first = position_ids.expand(batch, -1).gather(1, new.int().argmax(1, keepdim=True))
    return first + new.cumsum(1) - 1
