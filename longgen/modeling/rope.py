"""Methods that make rotary positions (RoPE, Su et al. 2021, arXiv 2104.09864) reach further than the base model's.

RoPE turns pair ``i`` of a head's ``d`` rotary dimensions by ``position * inv_freq[i]``, where
``inv_freq[i] = theta ** (-2 * i / d)``. Every method is a change of these frequencies, written as the
``rope_parameters`` that transformers computes them from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from longgen.errors import ConfigError, require
from longgen.modeling.ranges import LENGTH

KEPT = "no --rope and no --rope-theta, which keeps it"


class RopeBase(NamedTuple):
    """What a method starts from.

    Attributes:
        parameters: ``rope_parameters`` of the base model's config.
        length: its ``max_position_embeddings``, in tokens.
        head_dim: width of one head.
    """

    parameters: dict[str, Any]
    length: int
    head_dim: int

    @property
    def theta(self) -> float:
        """The base of the frequencies."""
        return float(self.parameters["rope_theta"])

    @property
    def rotary_dim(self) -> int:
        """How many dimensions of a head are rotated."""
        return int(self.head_dim * self.parameters.get("partial_rotary_factor", 1.0))


def _abf(base: RopeBase, theta: float) -> dict[str, Any]:
    """Adjusted base frequency (Xiong et al. 2023, arXiv 2309.16039): another theta."""
    return {"rope_type": "default", "rope_theta": theta}


def _linear(base: RopeBase, factor: float) -> dict[str, Any]:
    """Position interpolation (Chen et al. 2023, arXiv 2306.15595): all frequencies divided by the factor."""
    return {"rope_type": "linear", "factor": factor}


def _ntk(base: RopeBase, factor: float) -> dict[str, Any]:
    """NTK-aware change of theta (bloc97 2023; section 3.1 of arXiv 2309.00071): the lowest frequency is interpolated.

    The highest stays as it is, and those between are changed the more the lower they are.
    """
    exponent = base.rotary_dim / (base.rotary_dim - 2)
    return {"rope_type": "default", "rope_theta": base.theta * factor**exponent}


def _yarn(base: RopeBase, factor: float) -> dict[str, Any]:
    """YaRN (Peng et al. 2023, arXiv 2309.00071), with its alpha = 1, beta = 32 and temperature, as transformers has it.

    Frequencies that turn more than 32 times within the base's length stay, those that turn less than once are
    interpolated. Between them the ramp is linear in the index of the dimension, as in the authors' code; section 3.2 of
    the paper writes it linear in the number of turns.
    """
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": base.length}


# name -> change; the first group takes a theta, the second the factor by which the length grows.
BY_THETA: dict[str, Callable[[RopeBase, float], dict[str, Any]]] = {"abf": _abf}
BY_FACTOR: dict[str, Callable[[RopeBase, float], dict[str, Any]]] = {"linear": _linear, "ntk": _ntk, "yarn": _yarn}
ROPE_METHODS = (*BY_THETA, *BY_FACTOR)


def extended_rope(base: RopeBase, method: str | None, theta: float | None, max_length: int | None) -> dict[str, Any]:
    """The hybrid's ``rope_parameters``.

    Args:
        base: the base model's.
        method: a name in `ROPE_METHODS`; None is ``abf`` if ``theta`` is given, and else keeps the base's RoPE.
        theta: new base of the frequencies, for ``abf`` alone.
        max_length: tokens to reach; ``linear``, ``ntk`` and ``yarn`` take their factor, ``max_length / base.length``,
            from it.

    Raises:
        ConfigError: an unknown method, a value that its method lacks, does not use or cannot take, or a base model with
            a RoPE scaling of its own that the request does not fit.
    """
    if method is None and theta is not None:
        method = "abf"
    if max_length is not None:
        require(LENGTH.holds(max_length), "max_length", max_length, LENGTH.allowed)
    kind = base.parameters.get("rope_type", "default")
    if method is None:
        return dict(base.parameters)
    if method not in ROPE_METHODS:
        raise ConfigError(f"rope is {method!r}: allowed are {', '.join(ROPE_METHODS)}")
    if kind != "default":
        raise ConfigError(
            f"rope is {method!r} for a base model with rope_type {kind!r}: allowed is {KEPT}, or a base model whose "
            "rope_type is 'default'"
        )
    if method in BY_THETA:
        return base.parameters | BY_THETA[method](base, _checked_theta(method, theta))
    return base.parameters | BY_FACTOR[method](base, _checked_factor(method, theta, max_length, base.length))


def _checked_theta(method: str, theta: float | None) -> float:
    if theta is None or not math.isfinite(theta) or theta <= 1:
        raise ConfigError(f"rope_theta is {theta!r} with rope {method!r}: allowed is a number > 1")
    return float(theta)


def _checked_factor(method: str, theta: float | None, max_length: int | None, base_length: int) -> float:
    if theta is not None:
        raise ConfigError(
            f"rope_theta is {theta!r} with rope {method!r}, which computes its frequencies from max_length: allowed is "
            f"none, or rope {' or '.join(map(repr, BY_THETA))}"
        )
    if max_length is None or max_length < base_length:
        raise ConfigError(
            f"max_length is {max_length!r} with rope {method!r}: allowed is a whole number >= {base_length}, the base "
            "model's max_position_embeddings"
        )
    return max_length / base_length


def describe_rope(parameters: dict[str, Any]) -> str:
    """A model's ``rope_parameters`` in words."""
    theta = f"base {float(parameters['rope_theta']):,.0f}"
    match parameters.get("rope_type", "default"):
        case "default":
            return theta
        case "linear":
            return f"{theta}, positions divided by {parameters['factor']:g} (linear interpolation)"
        case kind:
            return f"{theta}, {kind} with factor {parameters.get('factor', 1):g}"
