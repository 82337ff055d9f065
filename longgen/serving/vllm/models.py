"""vLLM's models of the base families, with sparse attention where the layout says so; weights have the same names."""

from __future__ import annotations

from typing import Any

from vllm.config import VllmConfig
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM

from longgen.modeling import hybrid_of
from longgen.serving.vllm.attention import SparseAttention


class ServedHybrid:
    """Mixin; comes before vLLM's model."""

    model: Any

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        hybrid = hybrid_of(vllm_config.model_config.hf_config)
        for layer, full in zip(self.model.layers, hybrid.layout.full, strict=True):
            if not full:
                layer.self_attn.attn = SparseAttention(layer.self_attn.attn, hybrid.pattern, vllm_config)


class LongGenLlamaForCausalLM(ServedHybrid, LlamaForCausalLM):
    """Hybrids of Llama."""


class LongGenMistralForCausalLM(ServedHybrid, MistralForCausalLM):
    """Hybrids of Mistral."""


class LongGenQwen2ForCausalLM(ServedHybrid, Qwen2ForCausalLM):
    """Hybrids of Qwen2."""


class LongGenQwen3ForCausalLM(ServedHybrid, Qwen3ForCausalLM):
    """Hybrids of Qwen3."""
