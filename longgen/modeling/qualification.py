"""Which base models can become a hybrid, and what an error says about those that cannot."""

from __future__ import annotations

from typing import Any

from longgen.errors import ConfigError
from longgen.modeling.ranges import check_ranges
from longgen.modeling.settings import check_settings
from longgen.shapes import FAMILIES, HYBRID_PREFIX

NEEDED = (
    "a decoder-only causal LM with rotary positions, one attention per decoder layer that goes through transformers' "
    "AttentionInterface with grouped (or as many) KV heads, and no sliding window, attention bias, soft cap or sink of "
    "its own"
)

_WINDOWS = "has layers with a sliding window of their own"
_EXPERTS = "has experts, whose weights transformers arranges anew on loading, and which the planner does not count"
# Why families that come close do not qualify.
REASONS = {
    "cohere2": _WINDOWS,
    "exaone4": _WINDOWS,
    "gemma2": "caps its attention scores, and " + _WINDOWS,
    "gemma3": _WINDOWS,
    "gemma3_text": _WINDOWS,
    "gpt_oss": "has attention sinks of its own, layers with a sliding window, and experts",
    "ministral": _WINDOWS,
    "mixtral": _EXPERTS,
    "olmo3": _WINDOWS,
    "olmoe": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "starcoder2": "has an MLP without a gate, which the planner would count wrongly",
}

# What transformers calls layers of full attention, now and in older files.
FULL = ("full_attention", "attention")


def check_qualifies(values: dict[str, Any], drop_sliding_window: bool = False) -> None:
    """Refuse a base model that conversion would not do justice to.

    Args:
        values: its config, as a mapping.
        drop_sliding_window: accept a sliding window, since it will be removed.

    Raises:
        ConfigError: another family, a hybrid, a setting that a hybrid cannot follow (`check_settings`), a number out of
            its range (`check_ranges`), a sliding window, or layers that differ.
    """
    family = str(values.get("model_type"))
    if family.removeprefix(HYBRID_PREFIX) in FAMILIES and family.startswith(HYBRID_PREFIX):
        raise ConfigError(f"model_type is {family!r}, which is a hybrid already: allowed is to convert its base model")
    if family not in FAMILIES:
        own = f" This one {REASONS[family]}." if family in REASONS else ""
        raise ConfigError(
            f"model_type is {family!r}: allowed are {', '.join(FAMILIES)}.{own} A family qualifies if it is {NEEDED}; "
            "docs/adding-a-model.md says how to add one"
        )
    check_settings(values)
    check_ranges(values)
    window = sliding_window(values)
    if window is not None and not drop_sliding_window:
        raise ConfigError(
            f"sliding_window is {window}: allowed is none, since in a hybrid the layers that stay full attend to every "
            "token; --drop-sliding-window makes them do so"
        )
    kinds = values.get("layer_types")
    allowed_kinds = FULL if window is None else (*FULL, "sliding_attention")
    if kinds is not None and not (isinstance(kinds, list) and all(kind in allowed_kinds for kind in kinds)):
        raise ConfigError(
            f"layer_types is {kinds!r}: allowed is {FULL[0]!r} for every layer, since a hybrid has no other attention "
            "than its own"
        )


def sliding_window(values: dict[str, Any]) -> int | None:
    """The active sliding window of a config, in tokens; Qwen has one that is switched off by default."""
    return values.get("sliding_window") if values.get("use_sliding_window", True) else None
