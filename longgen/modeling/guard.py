"""A hybrid's config.json is one that plain model classes refuse, since they would run full attention with it.

transformers only warns where `LlamaForCausalLM.from_pretrained` meets a config of another model type, and goes on. So
the file has an entry ``rope_scaling``, as transformers wrote it until version 4 and still ranks above
``rope_parameters``, with a ``rope_type`` that nobody knows. A plain class stops there, and its error shows what to do.
Our config classes put the entry in when they write a file, and leave it out when they read one.
"""

from __future__ import annotations

from typing import Any

GUARD = {"rope_type": "longgen (import longgen to load this model)"}


class GuardedConfig:
    """Mixin for config classes of hybrids; comes before the base model's config class."""

    def to_diff_dict(self) -> dict[str, Any]:
        """What config.json holds."""
        return super().to_diff_dict() | {"rope_scaling": dict(GUARD)}  # type: ignore[misc]

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The config that ``config_dict``, from config.json or from memory, describes."""
        values = {key: value for key, value in config_dict.items() if (key, value) != ("rope_scaling", GUARD)}
        return super().from_dict(values, *args, **kwargs)  # type: ignore[misc]
