"""Models to measure: the shapes of an experiment with random weights. Speed and memory do not depend on the weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from longgen.config import ModelSettings, Variant
from longgen.modeling import longgen_config
from longgen.modeling.base import base_config


def random_variant(settings: ModelSettings, variant: Variant, max_length: int, seed: int) -> Any:
    """The hybrid ``variant`` of an experiment's model with random float32 weights on the CPU."""
    torch.manual_seed(seed)
    config = longgen_config(base_config(settings, max_length), variant.layout, variant.pattern)
    return AutoModelForCausalLM.from_config(config).eval()
