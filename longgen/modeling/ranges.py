"""What the numbers of a base model's config may be: transformers checks their types, and takes any value.

The ranges are those in which a model computes anything at all (our choice where transformers names none). Keys that a
config lacks, or that are null in it, are left to the config class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from transformers.activations import ACT2FN

from longgen.errors import ConfigError, require


class Range(NamedTuple):
    """Which values are allowed, and in words."""

    holds: Callable[[Any], bool]
    allowed: str


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _up_to(most: int, exponent: str, least: int = 1) -> Range:
    allowed = f"a whole number >= {least} and <= {exponent}"
    return Range(lambda value: _is_whole(value) and least <= value <= most, allowed)


# Beyond any model that there is, and low enough that a count can be counted out, and a product of sizes computed: what
# is wrong with a size is then told by the tensors.
COUNT = _up_to(2**16, "2^16")
WIDTH = _up_to(2**24, "2^24")
LENGTH = _up_to(2**40, "2^40")
POSITIVE = Range(lambda value: _is_number(value) and value > 0, "a finite number > 0")
NOT_NEGATIVE = Range(lambda value: _is_number(value) and value >= 0, "a finite number >= 0")
EPSILON = Range(lambda value: _is_number(value) and 0 < value < 1, "a number > 0 and < 1")
SHARE = Range(lambda value: _is_number(value) and 0 < value <= 1, "a number > 0 and <= 1")
PROBABILITY = Range(lambda value: _is_number(value) and 0 <= value <= 1, "a number 0..1")
THETA = Range(lambda value: _is_number(value) and value > 1, "a finite number > 1")
FACTOR = Range(lambda value: _is_number(value) and value >= 1, "a finite number >= 1")

RANGES: dict[str, Range] = (
    dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), WIDTH)
    | dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"), COUNT)
    | dict.fromkeys(("max_position_embeddings", "original_max_position_embeddings", "sliding_window"), LENGTH)
    | {"max_window_layers": _up_to(2**16, "2^16", 0), "num_labels": _up_to(2**16, "2^16", 0)}
    | {"no_rope_layer_interval": COUNT}
    | dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "norm_epsilon"), EPSILON)
    | {"initializer_range": NOT_NEGATIVE}
    | dict.fromkeys(("attention_dropout", "residual_dropout", "resid_pdrop", "embd_pdrop"), PROBABILITY)
    | dict.fromkeys(("hidden_dropout", "classifier_dropout"), PROBABILITY)
    | dict.fromkeys(("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"), POSITIVE)
    | {"rope_theta": THETA, "partial_rotary_factor": SHARE}
)

# rope_type -> the keys that it needs, as transformers' computation of the frequencies does; the original length it
# takes from elsewhere where it is missing
ROPE_TYPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
# Frequencies that transformers takes from the longest row of each call: a row would depend on what stands beside it,
# and keys in a cache on how their prompt was cut into chunks.
ROPE_BY_CALL = ("dynamic", "longrope")
ROPE_RANGES: dict[str, Range] = {
    "rope_theta": THETA,
    "partial_rotary_factor": SHARE,
    "factor": FACTOR,
    "original_max_position_embeddings": LENGTH,
    "low_freq_factor": POSITIVE,
    "high_freq_factor": POSITIVE,
    "beta_fast": POSITIVE,
    "beta_slow": POSITIVE,
    "attention_factor": POSITIVE,
    "mscale": NOT_NEGATIVE,
    "mscale_all_dim": NOT_NEGATIVE,
}
# the first must be above the second; what transformers takes where a config has none
ROPE_ORDER = (("high_freq_factor", math.inf, "low_freq_factor", 0), ("beta_fast", 32, "beta_slow", 1))


def check_ranges(values: dict[str, Any]) -> None:
    """Check the numbers of a config, and the names that stand for functions.

    Args:
        values: a config.json, or what its class made of it: keys may be missing.

    Raises:
        ConfigError: the first key whose value is out of its range, with what is allowed.
    """
    for path, number in _numbers(values, ""):
        require(math.isfinite(number), path, number, "a finite number")
    for key, allowed in RANGES.items():
        _check(values, key, allowed)
    heads, kv_heads = values.get("num_attention_heads"), values.get("num_key_value_heads")
    if heads is not None and kv_heads is not None:
        name, allowed_heads = "num_key_value_heads", f"a divisor of num_attention_heads {heads}"
        require(heads % kv_heads == 0, name, kv_heads, allowed_heads)
    activation = values.get("hidden_act")
    if activation is not None:
        is_activation = isinstance(activation, str) and activation in ACT2FN
        require(is_activation, "hidden_act", activation, f"one of {', '.join(sorted(ACT2FN))}")
    _check_layers_without_rope(values)
    _check_token_ids(values)
    for key in ("rope_parameters", "rope_scaling"):
        if values.get(key) is not None:
            _check_rope(key, values[key])


def _check(values: dict[str, Any], key: str, range_: Range, name: str | None = None) -> None:
    if values.get(key) is not None:
        require(range_.holds(values[key]), name or key, values[key], range_.allowed)


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every float below ``value``, with where it stands."""
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _numbers(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _numbers(entry, f"{path}[{index}]")


def _check_layers_without_rope(values: dict[str, Any]) -> None:
    flags, layers = values.get("no_rope_layers"), values.get("num_hidden_layers")
    if flags is None:
        return
    is_list = isinstance(flags, list) and all(_is_whole(flag) for flag in flags)
    require(is_list, "no_rope_layers", flags, "a list with a whole number for every layer, 0 for one without RoPE")
    if layers is not None and len(flags) < layers:
        raise ConfigError(f"no_rope_layers has {len(flags)} entries: allowed is num_hidden_layers {layers}")


def _check_token_ids(values: dict[str, Any]) -> None:
    vocabulary = values.get("vocab_size")
    if vocabulary is None:
        return
    allowed = f"null for none, or a token of the vocabulary, 0..{vocabulary - 1}"
    for key, value in values.items():
        if not key.endswith("_token_id") or value is None:
            continue
        for token in value if isinstance(value, list) else [value]:
            require(_is_whole(token) and 0 <= token < vocabulary, key, value, allowed)


def check_rope_type(name: str, kind: Any) -> None:
    """Check that RoPE of type ``kind``, of the config's entry ``name``, gives a token the same angles in every call.

    Raises:
        ConfigError: it does not, or nobody knows it.
    """
    if kind in ROPE_BY_CALL:
        raise ConfigError(
            f"{name}.rope_type is {kind!r}, whose frequencies depend on the length of each call, so that padded rows "
            f"and prompts in chunks would compute something else: allowed is one of {', '.join(ROPE_TYPES)}"
        )
    require(isinstance(kind, str) and kind in ROPE_TYPES, f"{name}.rope_type", kind, f"one of {', '.join(ROPE_TYPES)}")


def _check_rope(name: str, parameters: Any) -> None:
    require(isinstance(parameters, dict), name, parameters, "a mapping with rope_type and what that type needs")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    check_rope_type(name, kind)
    missing = [key for key in ROPE_TYPES[kind] if parameters.get(key) is None]
    if missing:
        raise ConfigError(f"{name} has no {', '.join(missing)}: rope_type {kind!r} needs {', '.join(ROPE_TYPES[kind])}")
    for key, range_ in ROPE_RANGES.items():
        _check(parameters, key, range_, f"{name}.{key}")
    for high, default_high, low, default_low in ROPE_ORDER:
        least = parameters.get(low) or default_low
        most = parameters.get(high) or default_high
        require(most > least, f"{name}.{high}", most, f"a number above {low}, which is {least!r}")
