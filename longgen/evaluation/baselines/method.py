"""`Method`: a way to shrink the KV cache of a full-attention model at inference, without training it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from longgen.errors import ConfigError
from longgen.modeling.attention import register_implementation
from longgen.modeling.configuration import hybrid_of
from longgen.shapes import HYBRID_PREFIX

# A cache that attends by itself: takes queries [batch, query heads, q_len, head_dim], the softmax scale and the name of
# a kernel for full attention; gives the output in the shape of the queries.
Attend = Callable[[torch.Tensor, float, str], torch.Tensor]

ATTENTION = "longgen_reduced"


@dataclass(frozen=True)
class Method:
    """Base of all methods. An instance has its sizes; what it holds while a model generates is in the cache it makes.

    Attributes:
        attention: the ``attn_implementation`` that its cache needs; None for the model's own.
    """

    attention: ClassVar[str | None] = ATTENTION

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """The method that keeps at most ``tokens`` per KV head, on average over heads and layers, of ``length``.

        Raises:
            ConfigError: so few are not enough for this method.
        """
        raise NotImplementedError

    def kept_tokens(self, length: int, config: PretrainedConfig) -> int:
        """Tokens kept once a prompt of ``length`` was read, summed over the KV heads of all layers."""
        raise NotImplementedError

    def make_cache(self, model: Any) -> Cache:
        """An empty cache for one call of `longgen.evaluation.baselines.generate`."""
        raise NotImplementedError


def check_count(name: str, value: Any, minimum: int = 1) -> None:
    """Raise ConfigError unless ``value`` is a whole number of at least ``minimum``."""
    if type(value) is not int or value < minimum:
        raise ConfigError(f"{name} is {value!r}: allowed is a whole number >= {minimum}")


def whole_tokens(tokens: Fraction, minimum: int) -> int:
    """``tokens`` rounded down. Raises ConfigError below ``minimum``, what a method needs at least."""
    if tokens < minimum:
        raise ConfigError(f"the budget is {float(tokens):.6g} tokens per KV head: this method needs at least {minimum}")
    return int(tokens)


def kv_heads_of(config: PretrainedConfig) -> int:
    """KV heads of all layers together."""
    return int(config.num_hidden_layers * config.num_key_value_heads)


def token_bytes(model: Any) -> int:
    """Bytes of a token's key and value in one KV head, in the dtype of the model's weights."""
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * head_dim * model.dtype.itemsize)


def full_kv_bytes(model: Any, length: int) -> int:
    """Bytes of keys and values of one sequence of ``length`` tokens, were all heads full."""
    return kv_heads_of(model.config) * length * token_bytes(model)


def check_full(config: PretrainedConfig) -> None:
    """Raise ConfigError unless ``config`` is of a longgen model with full attention in all heads."""
    advice = "`longgen convert MODEL NEW --layout all` makes one of an unconverted model"
    if not config.model_type.startswith(HYBRID_PREFIX):
        raise ConfigError(f"model_type is {config.model_type!r}: KV reductions need a converted model; {advice}")
    layout = hybrid_of(config).layout
    if layout.num_sparse:
        raise ConfigError(
            f"layout has {layout.num_full} of {layout.num_layers} layers full: KV reductions need all; {advice}"
        )


def _attention(
    module: Any, query: torch.Tensor, key: Attend, value: None, attention_mask: None, scaling: float, **_: Any
) -> tuple[torch.Tensor, None]:
    return key(query, scaling, module.full_kernel).transpose(1, 2).contiguous(), None


register_implementation(ATTENTION, _attention)
