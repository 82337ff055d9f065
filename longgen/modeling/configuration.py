"""Layout and pattern as part of a Hugging Face model config, under the key ``longgen``."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from longgen.errors import ConfigError
from longgen.hybrid import HeadGroup, Hybrid
from longgen.layout import Layout
from longgen.pattern import SparsePattern


def hybrid_of(config: PretrainedConfig) -> Hybrid:
    """Layout and pattern of a converted model's config.

    Raises:
        ConfigError: the config has no usable ``longgen`` entry.
    """
    entry: Any = getattr(config, "longgen", None)
    try:
        hybrid = Hybrid(Layout.from_kinds(entry["layout"]), SparsePattern(**entry["pattern"]))
    except (TypeError, KeyError) as error:
        raise ConfigError(f"config.longgen is {entry!r}: `longgen convert` writes layout and pattern there") from error
    if hybrid.layout.num_layers != config.num_hidden_layers:
        raise ConfigError(
            f"config.longgen.layout has {hybrid.layout.num_layers} layers: the model has {config.num_hidden_layers}"
        )
    return hybrid


def head_groups_of(config: PretrainedConfig) -> list[tuple[HeadGroup, ...]]:
    """For every layer of a converted model, its KV heads grouped by what they see.

    Raises:
        ConfigError: as `hybrid_of`, or the layout is for another number of KV heads.
    """
    hybrid = hybrid_of(config)
    return [hybrid.head_groups(layer, config.num_key_value_heads) for layer in range(hybrid.layout.num_layers)]


def longgen_config(
    base: PretrainedConfig,
    layout: Layout,
    pattern: SparsePattern,
    rope_theta: float | None = None,
    max_length: int | None = None,
) -> PretrainedConfig:
    """The config of the hybrid made from ``base``.

    Args:
        base: config of a model of a family in `longgen.modeling.BASE_FAMILIES`.
        layout: one flag per layer.
        pattern: of the sparse layers.
        rope_theta: new RoPE base (adjusted base frequency); None keeps the base model's.
        max_length: new ``max_position_embeddings``; None keeps the base model's.

    Raises:
        ConfigError: another family, a layout of another depth, or a model with its own sliding window or RoPE scaling.
    """
    from longgen.modeling.model import longgen_classes

    config_class, _ = longgen_classes(base.model_type)
    if layout.num_layers != base.num_hidden_layers:
        raise ConfigError(f"layout has {layout.num_layers} layers: the model has {base.num_hidden_layers}")
    values: dict[str, Any] = base.to_dict()
    for key in ("model_type", "architectures", "transformers_version"):
        values.pop(key, None)
    if values.get("sliding_window") is not None and values.get("use_sliding_window", True):
        window = values["sliding_window"]
        raise ConfigError(f"sliding_window is {window}: a base model with a window of its own cannot be converted")
    values.pop("layer_types", None)  # derived; the hybrid's layers are told apart by `longgen` alone
    if rope_theta is not None:
        rope = dict(values.get("rope_parameters") or {"rope_type": "default"})
        if rope.get("rope_type", "default") != "default":
            raise ConfigError(f"rope_type is {rope['rope_type']!r}: a new RoPE base needs a base model with 'default'")
        values["rope_parameters"] = rope | {"rope_theta": float(rope_theta)}
    if max_length is not None:
        values["max_position_embeddings"] = max_length
    return config_class(**values, longgen={"layout": layout.kinds(), "pattern": pattern.to_dict()})
