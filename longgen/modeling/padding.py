"""Padded batches: rows of different lengths, told apart by Hugging Face's 2-D attention mask.

A token that the mask hides does not exist for us: no block of the pattern, no position and no place in the cache is
spent on it, so that every row computes what it would compute alone.
"""

from __future__ import annotations

import torch

POSITIONS_DO_NOT_RISE = "position_ids do not rise by one: allowed without a cache and without a mask (packed documents)"


def real_tokens(new: torch.Tensor) -> list[slice] | None:
    """Where each row's real tokens stand among the tokens of one call.

    Args:
        new: [batch, q_len] booleans, the mask of these tokens.

    Returns:
        a slice per row, which may be empty; None where no token is padding.

    Raises:
        ValueError: a row has padding between two real tokens of the call.
    """
    if bool(new.all()):
        return None
    counts, first = new.sum(1), new.int().argmax(1)
    last = new.shape[1] - new.flip(1).int().argmax(1)
    gaps = ((last - first != counts) & (counts > 0)).nonzero().flatten().tolist()
    if gaps:
        raise ValueError(f"attention_mask has zeros between ones in row {gaps[0]}: allowed is padding at the ends only")
    pairs = zip(first.tolist(), counts.tolist(), strict=True)
    return [slice(start, start + count) for start, count in pairs]


def positions_in_rows(
    given: torch.Tensor, new: torch.Tensor | None, first: torch.Tensor | int, position_ids: torch.Tensor | None
) -> torch.Tensor:
    """Position ids [batch, q_len] that count real tokens only. They rise by one over padding too.

    Args:
        given: [batch, q_len] or [batch, q_len, hidden size], this call's input.
        new: [batch, q_len] booleans, the mask of these tokens; None where all are real.
        first: position of every row's first real token, [batch, 1] or one number; ``position_ids`` win over it.
        position_ids: the caller's own, [batch or 1, q_len], of which those of real tokens count.
    """
    batch, q_len = given.shape[:2]
    if new is None:
        start = torch.zeros(batch, 1, dtype=torch.int64, device=given.device)
    else:
        start = new.int().argmax(1, keepdim=True)
    if position_ids is not None:
        first = position_ids.expand(batch, -1).gather(1, start)
    return first + torch.arange(q_len, device=given.device) - start
