"""Next-token cross-entropy without the [tokens, vocabulary] logits of a whole sequence in memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from longgen.names import CHUNK_TOKENS, LOGITS_BLOCK

# Bytes of float32 logits that the softmax works on at a time on a CPU: it passes over them several times, in caches.
CPU_BLOCK = 2**22


def weighted_loss(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    total_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted mean cross-entropy, computed chunk by chunk, with its gradients.

    Args:
        hidden: [batch, length, hidden size], last hidden states.
        head: [vocabulary, hidden size], weight of the language-model head.
        targets: [batch, length] int64, the next token of each position.
        weights: [batch, length] float, >= 0; positions of weight 0 cost nothing.
        total_weight: what the weighted sum is divided by; None for the sum of ``weights``.

    Returns:
        scalars: the loss, in float32 at least; and without gradient, of the positions of weight > 1 (answers), of how
        many no token is more probable than the target, and how many there are.
    """
    positions = weights.flatten().nonzero().squeeze(1)
    hidden = hidden.flatten(0, 1).index_select(0, positions)
    targets, weights = targets.flatten()[positions], weights.flatten()[positions]
    total_weight = weights.sum() if total_weight is None else total_weight
    loss, right = _LinearCrossEntropy.apply(hidden, head, targets, weights, total_weight, torch.is_grad_enabled())
    return loss, right, (weights > 1).sum()


class _LinearCrossEntropy(torch.autograd.Function):
    """LM head and cross-entropy in one: gradients are computed in the forward pass, while a chunk's logits are there.

    So logits are computed once and never kept; Liger Kernel (Hsu et al. 2024, arXiv 2410.10989) does the same in
    Triton. Gradients of a chunk are in the dtype of the weights, their sum over chunks in float32 at least.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        total_weight: torch.Tensor,
        with_gradients: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        for_hidden, for_head = (with_gradients and needed for needed in ctx.needs_input_grad[:2])
        loss, right = hidden.new_zeros((), dtype=wide), torch.zeros((), dtype=torch.int64, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if for_hidden else None
        head_gradient = torch.zeros_like(head, dtype=wide) if for_head else None
        weights = weights.to(wide)
        shares = weights / total_weight
        for start in range(0, len(hidden), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            logits = F.linear(hidden[part], head)
            part_loss, is_top = _loss_and_gradient_(logits, targets[part], shares[part], for_hidden or for_head)
            loss += part_loss
            right += (is_top & (weights[part] > 1)).sum()
            if hidden_gradient is not None:
                torch.mm(logits, head, out=hidden_gradient[part])
            if head_gradient is not None:
                head_gradient += logits.T @ hidden[part]
        ctx.save_for_backward(hidden_gradient, head_gradient)
        ctx.head_dtype = head.dtype
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: torch.Tensor, _: Any) -> tuple[torch.Tensor | None, ...]:
        hidden, head = ctx.saved_tensors
        hidden = None if hidden is None else hidden * loss_gradient.to(hidden.dtype)
        if head is not None:
            head = torch.mul(head, loss_gradient, out=torch.empty_like(head, dtype=ctx.head_dtype))
        return hidden, head, None, None, None, None


def _loss_and_gradient_(
    logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of ``logits`` [tokens, vocabulary], weighted by ``shares``; with ``gradient`` they become its own.

    Returns:
        scalar in the dtype of ``shares``; and [tokens], whether no token is more probable than the target.
    """
    loss, is_top = shares.new_zeros(()), torch.empty(len(logits), dtype=torch.bool, device=logits.device)
    size = CPU_BLOCK if logits.device.type == "cpu" else LOGITS_BLOCK
    rows = max(1, size // (logits.shape[1] * shares.element_size()))
    scores = torch.empty(min(rows, len(logits)), logits.shape[1], dtype=shares.dtype, device=logits.device)
    parts = zip(*(t.split(rows) for t in (logits, targets, shares, is_top)), strict=True)
    for block, target, share, is_top_block in parts:
        probabilities = scores[: len(block)].copy_(block)
        largest = probabilities.amax(-1, keepdim=True)
        probabilities -= largest
        target_scores = probabilities.gather(1, target[:, None]).squeeze(1)
        is_top_block.copy_(target_scores == 0)
        sums = probabilities.exp_().sum(-1)
        loss += ((sums.log() - target_scores) * share).sum()
        if gradient:
            probabilities *= (share / sums)[:, None]
            probabilities.scatter_add_(1, target[:, None], -share[:, None])
            block.copy_(probabilities)
    return loss, is_top
