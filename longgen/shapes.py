"""Shapes of Llama-like models: what the planner must know of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longgen.errors import ConfigError

if TYPE_CHECKING:
    from longgen.config import ModelSettings

# ``model_type`` of the base models that can become a hybrid. Here, where the planner has them without importing torch.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "olmo2", "smollm3", "phi3", "glm4", "seed_oss", "granite")
HYBRID_PREFIX = "longgen_"
# What transformers' config class takes for a key that the file does not have; for families not here, and where the file
# has null: as many KV heads as heads, which share the width, and two matrices. A test compares them.
ABSENT: dict[str, dict[str, int]] = {
    "mistral": {"num_key_value_heads": 8},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
    "smollm3": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "glm4": {"num_key_value_heads": 2, "head_dim": 128},
    "seed_oss": {"num_key_value_heads": 8, "head_dim": 128},
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder with grouped-query attention and a gated MLP: of a family in `FAMILIES`.

    Attributes:
        name: for tables.
        num_layers: decoder layers.
        hidden_size: width of the residual stream.
        intermediate_size: width of the gated MLP.
        num_heads: query heads.
        num_kv_heads: key/value heads; divides ``num_heads``.
        head_dim: width of one head.
        vocab_size: rows of the embedding table and of the LM head.
        tie_word_embeddings: whether these two are one matrix.

    Raises:
        ConfigError: a size is not a whole number >= 1, or ``num_kv_heads`` does not divide ``num_heads``.
    """

    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or value < 1):
                raise ConfigError(f"{field.name} is {value!r}: allowed is a whole number >= 1")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_kv_heads is {self.num_kv_heads}: allowed is a divisor of num_heads {self.num_heads}"
            )

    @property
    def layer_weights(self) -> int:
        """Weights in the matrices of one layer: q, k, v, o and the three of the gated MLP."""
        attention = 2 * self.hidden_size * self.head_dim * (self.num_heads + self.num_kv_heads)
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def head_weights(self) -> int:
        """Weights of the LM head, and as many of the embedding table."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights: matrices, and two RMSNorms per layer. Without biases, norms of q and k, and further norms.

        Those are below 0.01 % of a model of billions.
        """
        norms = (2 * self.num_layers + 1) * self.hidden_size
        return self.num_layers * self.layer_weights + (2 - self.tie_word_embeddings) * self.head_weights + norms

    @classmethod
    def from_settings(cls, name: str, settings: ModelSettings) -> ModelShape:
        """The shape of an experiment's base model."""
        return cls(
            name=name,
            num_layers=settings.num_hidden_layers,
            hidden_size=settings.hidden_size,
            intermediate_size=settings.intermediate_size,
            num_heads=settings.num_attention_heads,
            num_kv_heads=settings.num_key_value_heads,
            head_dim=settings.hidden_size // settings.num_attention_heads,
            vocab_size=settings.vocab_size,
            tie_word_embeddings=settings.tie_word_embeddings,
        )

    @classmethod
    def from_hf_config(cls, path: Path | str) -> ModelShape:
        """The shape in a Hugging Face config.json, of a base model or of one that `longgen convert` made.

        Args:
            path: the file, or the folder that holds it.

        Raises:
            ConfigError: no such file, not JSON, another model family, or a size is missing or impossible.
        """
        path = Path(path)
        if path.is_dir():
            path /= "config.json"
        try:
            return cls._from_values(path.resolve().parent.name, _read_mapping(path))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def _from_values(cls, name: str, values: dict[str, Any]) -> ModelShape:
        family = values.get("model_type")
        base = str(family).removeprefix(HYBRID_PREFIX)
        if base not in FAMILIES:
            raise ConfigError(f"model_type is {family!r}: allowed are {', '.join(FAMILIES)}")
        values = ABSENT.get(base, {}) | values
        hidden_size, num_heads = _size(values, "hidden_size"), _size(values, "num_attention_heads")
        return cls(
            name=name,
            num_layers=_size(values, "num_hidden_layers"),
            hidden_size=hidden_size,
            intermediate_size=_size(values, "intermediate_size"),
            num_heads=num_heads,
            # The next two may be absent or null: then heads are not grouped, and share the width among them.
            num_kv_heads=_size(values, "num_key_value_heads", num_heads),
            head_dim=_size(values, "head_dim", hidden_size // num_heads),
            vocab_size=_size(values, "vocab_size"),
            tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
        )


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{error.strerror}: allowed is a model's config.json or its folder") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON ({error}): allowed is a model's config.json or its folder") from None
    if not isinstance(values, dict):
        raise ConfigError("not a mapping: allowed is a model's config.json or its folder")
    return values


def _size(values: dict[str, Any], key: str, default: int | None = None) -> int:
    value = values.get(key)
    if value is None:
        value = default
    if type(value) is not int or value < 1:
        raise ConfigError(f"{key} is {value!r}: allowed is a whole number >= 1")
    return value


# Source: config.json of the Hugging Face repository named beside each; a test compares the parameter counts that these
# repositories publish.
MODEL_SHAPES: dict[str, ModelShape] = {
    shape.name: shape
    for shape in (
        ModelShape("llama2-7b", 32, 4096, 11008, 32, 32, 128, 32000),  # meta-llama/Llama-2-7b-hf
        ModelShape("llama2-13b", 40, 5120, 13824, 40, 40, 128, 32000),  # meta-llama/Llama-2-13b-hf
        ModelShape("llama2-70b", 80, 8192, 28672, 64, 8, 128, 32000),  # meta-llama/Llama-2-70b-hf
        ModelShape("llama3-8b", 32, 4096, 14336, 32, 8, 128, 128256),  # meta-llama/Meta-Llama-3-8B
        ModelShape("mistral-7b", 32, 4096, 14336, 32, 8, 128, 32000),  # mistralai/Mistral-7B-v0.1
        ModelShape("qwen3-8b", 36, 4096, 12288, 32, 8, 128, 151936),  # Qwen/Qwen3-8B
    )
}


def model_shape(name_or_path: str) -> ModelShape:
    """The shape called ``name_or_path`` in `MODEL_SHAPES`, or that of a config.json or folder.

    Raises:
        ConfigError: neither, or the file is unusable.
    """
    if name_or_path in MODEL_SHAPES:
        return MODEL_SHAPES[name_or_path]
    if not Path(name_or_path).exists():
        names = ", ".join(MODEL_SHAPES)
        raise ConfigError(f"model is {name_or_path!r}: allowed are {names}, or the path of a config.json or its folder")
    return ModelShape.from_hf_config(name_or_path)
