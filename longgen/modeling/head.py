"""The LM head called by itself, on some of a model's last hidden states: not all tokens need logits, or not at once."""

from __future__ import annotations

from typing import Any

import torch


def head_input(model: Any, states: torch.Tensor) -> torch.Tensor:
    """What ``model.lm_head`` makes the model's logits of.

    Args:
        model: a causal LM of a family in `longgen.modeling.BASE_FAMILIES`, converted or not.
        states: [..., hidden size], its last hidden states.

    Returns:
        [..., hidden size]: ``states``, or for Granite, which divides its logits, ``states`` divided by the same number.
    """
    scale = getattr(model.config, "logits_scaling", 1)
    return states if scale == 1 else states / scale
