"""One timed call each of prefill, decode and a training step; and the bytes of the KV cache."""

from __future__ import annotations

from typing import Any

import torch

from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.modeling import LongGenCache
from longgen.modeling.head import head_input
from longgen.profiling.device import timed
from longgen.training.loss import weighted_loss


def random_tokens(length: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """[1, length] random token ids (int64), the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY_SIZE, (1, length), generator=generator).to(device)


@torch.no_grad()
def prefill(model: Any, tokens: torch.Tensor) -> tuple[float, LongGenCache]:
    """Seconds to read ``tokens`` [1, length] into a new cache and predict one token; and the cache."""
    cache = LongGenCache(model.config)

    def run() -> None:
        model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)

    return timed(run, str(model.device)).seconds, cache


@torch.no_grad()
def decode(model: Any, cache: LongGenCache, steps: int) -> float:
    """Mean seconds per token of ``steps`` decoded tokens on top of ``cache``."""
    first = torch.zeros((1, 1), dtype=torch.long, device=model.device)

    def run() -> None:
        token = first
        for _ in range(steps):
            token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)

    return timed(run, str(model.device)).seconds / steps


def training_step(model: Any, tokens: torch.Tensor) -> float:
    """Seconds for the forward and backward pass over ``tokens`` [1, length] (no optimizer: it is the same for all)."""
    model.zero_grad()
    targets, weights = tokens.roll(-1, dims=1), torch.ones_like(tokens, dtype=torch.float32)

    def run() -> None:
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        loss, _, _ = weighted_loss(head_input(model, hidden), model.lm_head.weight, targets, weights)
        loss.backward()

    return timed(run, str(model.device)).seconds
