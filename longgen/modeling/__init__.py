"""The hybrid model: any Llama-like Hugging Face causal LM with full and sparse layers, and its KV cache."""

from longgen.modeling.cache import LongGenCache
from longgen.modeling.configuration import hybrid_of, longgen_config
from longgen.modeling.convert import convert_checkpoint
from longgen.modeling.model import BASE_FAMILIES, longgen_classes, register_models

__all__ = [
    "BASE_FAMILIES",
    "LongGenCache",
    "convert_checkpoint",
    "hybrid_of",
    "longgen_classes",
    "longgen_config",
    "register_models",
]

register_models()
