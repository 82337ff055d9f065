"""Layout and pattern as part of a Hugging Face model config, under the key ``longgen``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from longgen.errors import ConfigError
from longgen.hybrid import HeadGroup, Hybrid
from longgen.layout import Layout
from longgen.modeling.attention import check_implementation
from longgen.modeling.qualification import check_qualifies, sliding_window
from longgen.modeling.ranges import check_rope_type
from longgen.modeling.rope import RopeBase, extended_rope
from longgen.pattern import SparsePattern
from longgen.shapes import FAMILIES, HYBRID_PREFIX

# A hybrid's config.json is one that plain model classes refuse, since they would run full attention with it.
# transformers only warns where `LlamaForCausalLM.from_pretrained` meets a config of another model type, and goes on. So
# the file has an entry ``rope_scaling``, as transformers wrote it until version 4 and still ranks above
# ``rope_parameters``, with a ``rope_type`` that nobody knows. A plain class stops there, its error shows what to do.
# Our config classes put the entry in when they write a file, and leave it out when they read one.
GUARD = {"rope_type": "longgen (import longgen to load this model)"}


class HybridConfig:
    """Mixin for config classes of hybrids; comes before the base model's config class."""

    # Code in a checkpoint: there is none. TRL, given a path, asks where a class is not one of transformers'.
    auto_map: ClassVar[Mapping[str, str]] = MappingProxyType({})
    _attn_implementation_internal: str | None

    def to_diff_dict(self) -> dict[str, Any]:
        """What config.json holds."""
        return super().to_diff_dict() | {"rope_scaling": dict(GUARD)}  # type: ignore[misc]

    def __post_init__(self, **kwargs: Any) -> None:
        """Every way to make a config ends here: from a file, from JSON, from keywords."""
        if kwargs.get("rope_scaling") == GUARD:
            del kwargs["rope_scaling"]
        super().__post_init__(**kwargs)  # type: ignore[misc]

    @property
    def _attn_implementation(self) -> str:
        """Which attention runs: every layer asks here, so that nobody can put other attention into a hybrid unnoticed.

        Raises:
            ConfigError: attention that is not ours.
        """
        return check_implementation(self._attn_implementation_internal)

    @_attn_implementation.setter
    def _attn_implementation(self, name: str | dict[str, str] | None) -> None:
        self._attn_implementation_internal = check_implementation(name.get("") if isinstance(name, dict) else name)


@functools.cache
def hybrid_config_class(family: str) -> type[PretrainedConfig]:
    """The config class of the hybrids made from ``family``, a ``model_type`` such as ``llama``.

    Raises:
        ConfigError: a family that is not supported.
    """
    if family not in FAMILIES:
        raise ConfigError(f"model_type is {family!r}: allowed are {', '.join(FAMILIES)}")
    base = CONFIG_MAPPING[family]
    fields = {
        "model_type": f"{HYBRID_PREFIX}{family}",
        "longgen": None,
        "__annotations__": {"longgen": dict | None},
        "__module__": __name__,
    }
    config_class = type(f"LongGen{base.__name__}", (HybridConfig, base), fields)
    globals()[config_class.__name__] = config_class  # importable by name, as pickling and inspection expect of classes
    return config_class


def hybrid_of(config: PretrainedConfig) -> Hybrid:
    """Layout and pattern of a converted model's config.

    Raises:
        ConfigError: the config has no usable ``longgen`` entry, or RoPE that depends on the length of a call.
    """
    entry: Any = getattr(config, "longgen", None)
    try:
        hybrid = Hybrid(Layout.from_kinds(entry["layout"]), SparsePattern(**entry["pattern"]))
    except (TypeError, KeyError) as error:
        raise ConfigError(f"config.longgen is {entry!r}: `longgen convert` writes layout and pattern there") from error
    check_rope_type("rope_parameters", (config.rope_parameters or {}).get("rope_type", "default"))
    if hybrid.layout.num_layers != config.num_hidden_layers:
        raise ConfigError(
            f"config.longgen.layout has {hybrid.layout.num_layers} layers: the model has {config.num_hidden_layers}"
        )
    return hybrid


def plain_values(values: dict[str, Any]) -> dict[str, Any]:
    """A config as a mapping; that of a hybrid whose layers are all full as its base model's, which it is.

    So is a GGUF file converted with ``--layout all`` a checkpoint like any other.

    Raises:
        ConfigError: a hybrid with sparse layers: its base model's weights are elsewhere, or are no more.
    """
    family = str(values.get("model_type"))
    base = family.removeprefix(HYBRID_PREFIX)
    if base == family or base not in FAMILIES or "longgen" not in values:
        return values
    config = hybrid_config_class(base).from_dict(values)
    sparse = hybrid_of(config).layout.num_sparse
    if sparse:
        raise ConfigError(
            f"model_type is {family!r}, a hybrid with {sparse:g} sparse layers already: allowed is to convert its base "
            "model, or a hybrid whose layers are all full"
        )
    plain = config.to_dict()
    del plain["longgen"]
    return plain | {"model_type": base}


def head_groups_of(config: PretrainedConfig) -> list[tuple[HeadGroup, ...]]:
    """For every layer of a converted model, its KV heads grouped by what they see.

    Raises:
        ConfigError: as `hybrid_of`, or the layout is for another number of KV heads.
    """
    return list(_head_groups(hybrid_of(config), config.num_key_value_heads))


# The same objects for the same hybrid: every call of a model compares those of its cache with its own.
@functools.lru_cache(maxsize=64)
def _head_groups(hybrid: Hybrid, num_kv_heads: int) -> tuple[tuple[HeadGroup, ...], ...]:
    return tuple(hybrid.head_groups(layer, num_kv_heads) for layer in range(hybrid.layout.num_layers))


def longgen_config(
    base: PretrainedConfig,
    layout: Layout,
    pattern: SparsePattern,
    rope_theta: float | None = None,
    max_length: int | None = None,
    rope: str | None = None,
    drop_sliding_window: bool = False,
) -> PretrainedConfig:
    """The config of the hybrid made from ``base``: the same, but for what the arguments change.

    And but for ``attention_dropout``, which is 0 in it. Nothing but training knows the difference.

    Args:
        base: config of a model of a family in `longgen.modeling.BASE_FAMILIES`.
        layout: what stays full, for every layer.
        pattern: of the sparse layers.
        rope_theta: new RoPE base, for ``abf``; None keeps the base model's.
        max_length: new ``max_position_embeddings``; None keeps the base model's.
        rope: how RoPE is extended, see `longgen.modeling.rope.extended_rope`; None is ``abf`` if there is a
            ``rope_theta``, and else keeps the base model's.
        drop_sliding_window: remove the base model's sliding window instead of refusing it.

    Raises:
        ConfigError: a base model that does not qualify, a layout of another depth, or an impossible RoPE.
    """
    values: dict[str, Any] = base.to_dict()
    check_qualifies(values | {"model_type": base.model_type}, drop_sliding_window)
    config_class = hybrid_config_class(base.model_type)
    if layout.num_layers != base.num_hidden_layers:
        raise ConfigError(f"layout has {layout.num_layers} layers: the model has {base.num_hidden_layers}")
    # `auto_map` names code in the base model's repository; `layer_types` is derived, and the hybrid's layers are told
    # apart by `longgen` alone.
    for key in ("model_type", "architectures", "transformers_version", "auto_map", "layer_types"):
        values.pop(key, None)
    if sliding_window(values) is not None:
        values |= {"sliding_window": None} | ({"use_sliding_window": False} if "use_sliding_window" in values else {})
    if values.get("attention_dropout"):
        # Our attention has none. A hybrid is there to be trained: its config says what its training does.
        values["attention_dropout"] = 0.0
    head_dim = getattr(base, "head_dim", None) or base.hidden_size // base.num_attention_heads
    old = RopeBase(values["rope_parameters"], base.max_position_embeddings, head_dim)
    values["rope_parameters"] = extended_rope(old, rope, rope_theta, max_length)
    if max_length is not None:
        values["max_position_embeddings"] = max_length
    return config_class(**values, longgen={"layout": layout.kinds(), "pattern": pattern.to_dict()})
