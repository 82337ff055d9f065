"""Next-token cross-entropy without the [tokens, vocabulary] logits of a whole sequence in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from longgen.names import CHUNK_TOKENS


def _chunk_sum(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = F.linear(hidden, head)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(logits, targets, reduction="none")
    return (loss * weights).sum(), (logits.detach().argmax(-1) == targets).float()


def weighted_loss(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    total_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted mean cross-entropy, computed chunk by chunk and recomputed in the backward pass.

    Args:
        hidden: [batch, length, hidden size], last hidden states.
        head: [vocabulary, hidden size], weight of the language-model head.
        targets: [batch, length] int64, the next token of each position.
        weights: [batch, length] float, >= 0; positions of weight 0 cost nothing.
        total_weight: what the weighted sum is divided by; None for the sum of ``weights``.

    Returns:
        scalars: the loss; and without gradient, of the positions of weight > 1 (answers), how many have the target as
        their most probable token, and how many there are.
    """
    used = weights.flatten().nonzero().squeeze(1)
    hidden = hidden.flatten(0, 1).index_select(0, used)
    targets, weights = targets.flatten()[used], weights.flatten()[used]
    total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
    correct = []
    parts = zip(*(t.split(CHUNK_TOKENS) for t in (hidden, targets, weights)), strict=True)
    for hidden_part, targets_part, weights_part in parts:
        if len(used) <= CHUNK_TOKENS:  # a single chunk: keeping its logits is cheaper than computing them twice
            part, hits = _chunk_sum(hidden_part, head, targets_part, weights_part)
        else:
            part, hits = checkpoint(_chunk_sum, hidden_part, head, targets_part, weights_part, use_reentrant=False)
        total = total + part
        correct.append(hits)
    total_weight = weights.sum() if total_weight is None else total_weight
    answers = weights > 1
    return total / total_weight, (torch.cat(correct) * answers).sum(), answers.sum()
