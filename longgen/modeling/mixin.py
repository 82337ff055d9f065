"""`LongGenMixin`: what every class of a hybrid has in common, whatever head it carries."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from longgen.attention import FULL_KERNELS
from longgen.attention.call import AttentionCall
from longgen.attention.dispatch import choose_backend
from longgen.attention.full import choose_full_kernel
from longgen.errors import ConfigError
from longgen.modeling.attention import IMPLEMENTATIONS, check_implementation
from longgen.modeling.attention_parts import Kernels
from longgen.modeling.configuration import hybrid_of
from longgen.modeling.shifted import GROUPS, check_groups


class LongGenMixin:
    """Comes before the base family's class. Weights, modules and names of the state dict stay the base's."""

    # What transformers' own kernels would need is not there: attention is ours (`longgen.modeling.attention`).
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_flex_attn = False

    config: PretrainedConfig
    base_model: Any

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *_: Any, **__: Any) -> str:
        return check_implementation(attn_implementation)

    def get_correct_attn_implementation(self, requested_attention: str | None, *_: Any, **__: Any) -> str:
        """The name of our attention that ``requested_attention`` stands for; None is the default.

        Raises:
            ConfigError: attention that is not ours, which would be full in every layer.
        """
        return check_implementation(requested_attention)

    def _attentions(self) -> list[Any]:
        return [layer.self_attn for layer in self.base_model.layers]

    def use_full_attention(self, kernel: str) -> None:
        """Choose which code computes full heads; that of sparse heads is ``attn_implementation``.

        Args:
            kernel: a name in `longgen.attention.FULL_KERNELS`, or ``auto``, as after loading.

        Raises:
            ValueError: unknown name.
        """
        if kernel != "auto" and kernel not in FULL_KERNELS:
            raise ValueError(f"full attention kernel is {kernel!r}: allowed are auto, {', '.join(FULL_KERNELS)}")
        for attention in self._attentions():
            attention.full_kernel = kernel

    def use_shifted_groups(self, groups: int | None = GROUPS) -> None:
        """Train with LongLoRA's shifted groups of tokens in place of full attention (`longgen.modeling.shifted`).

        In evaluation mode attention stays full. Not stored: what is saved is an ordinary full model.

        Args:
            groups: how many a row is cut into; None trains with full attention again.

        Raises:
            ConfigError: a model with sparse layers or a single KV head, or fewer than 2 groups.
        """
        if groups is not None:
            layout = hybrid_of(self.config).layout
            if layout.num_sparse:
                raise ConfigError(
                    f"layout has {layout.num_full} of {layout.num_layers} layers full: shifted groups need all"
                )
            check_groups(groups, self.config.num_key_value_heads)
        for attention in self._attentions():
            attention.shifted_groups = groups

    def attention_kernels(self, dtype: torch.dtype | None = None) -> dict[str, str]:
        """Which code computes whole prompts on the model's device, with ``auto`` resolved: for a result's provenance.

        Args:
            dtype: of queries and keys; None for that of the weights.

        Returns:
            ``sparse``: a name in `longgen.attention.BACKENDS`; ``full``: a name in `longgen.attention.FULL_KERNELS`.
        """
        attention = self._attentions()[0]
        kernels = Kernels(IMPLEMENTATIONS[self.config._attn_implementation], attention.full_kernel)
        weight = next(attention.parameters())
        heads, kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        query, key = (
            torch.empty(1, count, 16, attention.head_dim, dtype=dtype or weight.dtype, device=weight.device)
            for count in (heads, kv_heads)
        )
        call = AttentionCall(hybrid_of(self.config).pattern, attention.scaling, 0, (0,) * kv_heads)
        return {
            "sparse": choose_backend(query, key, call) if kernels.sparse == "auto" else kernels.sparse,
            "full": choose_full_kernel(query, key) if kernels.full == "auto" else kernels.full,
        }


def become_hybrid(decoder: Any, hybrid_class: Any) -> None:
    """Turn the decoder that a base family's causal LM made for itself into a hybrid, in place.

    The base's constructor names its own decoder class; to build another decoder after it would initialise all weights
    twice.

    Args:
        decoder: an instance of the base of ``hybrid_class``.
        hybrid_class: the hybrid's decoder class, which adds methods but no state of its own.
    """
    # transformers notes when a model is constructed, by its class, which outputs can be recorded: a bare one will do
    PreTrainedModel.__init__(hybrid_class.__new__(hybrid_class), decoder.config)
    decoder.__class__ = hybrid_class
    decoder.prepare_attention()
