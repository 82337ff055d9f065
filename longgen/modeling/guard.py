"""A hybrid's config.json is one that plain model classes refuse, since they would run full attention with it.

transformers only warns where `LlamaForCausalLM.from_pretrained` meets a config of another model type, and goes on. So
the file has an entry ``rope_scaling``, as transformers wrote it until version 4 and still ranks above
``rope_parameters``, with a ``rope_type`` that nobody knows. A plain class stops there, and its error shows what to do.
Our config classes put the entry in when they write a file, and leave it out when they read one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

GUARD = {"rope_type": "longgen (import longgen to load this model)"}


class GuardedConfig:
    """Mixin for config classes of hybrids; comes before the base model's config class."""

    # Code in a checkpoint: there is none. TRL, given a path, asks where a class is not one of transformers'.
    auto_map: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def to_diff_dict(self) -> dict[str, Any]:
        """What config.json holds."""
        return super().to_diff_dict() | {"rope_scaling": dict(GUARD)}  # type: ignore[misc]

    def __post_init__(self, **kwargs: Any) -> None:
        """Every way to make a config ends here: from a file, from JSON, from keywords."""
        if kwargs.get("rope_scaling") == GUARD:
            del kwargs["rope_scaling"]
        super().__post_init__(**kwargs)  # type: ignore[misc]
