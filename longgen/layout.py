"""Which layers keep full attention: a count or ratio, and a placement."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from longgen.errors import ConfigError


def _middle(layers: int, full: int) -> range:
    start = (layers - full) // 2
    return range(start, start + full)


def _ends(layers: int, full: int) -> set[int]:
    bottom = (full + 1) // 2
    return set(range(bottom)) | set(range(layers - (full - bottom), layers))


def _interleaved(layers: int, full: int) -> set[int]:
    # the centres of `full` equal slices of the stack
    return {(2 * i + 1) * layers // (2 * full) for i in range(full)}


# Layer 0 is the bottom (next to the embeddings). The paper keeps the middle; the others are its placement ablation.
PLACEMENTS: dict[str, Callable[[int, int], set[int] | range]] = {
    "middle": _middle,
    "ends": _ends,
    "bottom": lambda layers, full: range(full),
    "top": lambda layers, full: range(layers - full, layers),
    "interleaved": _interleaved,
}


@dataclass(frozen=True)
class Layout:
    """For every layer, from the bottom up, whether it keeps full attention.

    Attributes:
        full: one flag per layer; True keeps full attention, False is a sparse layer.
    """

    full: tuple[bool, ...]

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self.full)

    @property
    def num_full(self) -> int:
        """Number of layers that keep full attention."""
        return sum(self.full)

    @property
    def num_sparse(self) -> int:
        """Number of sparse layers."""
        return self.num_layers - self.num_full

    def kinds(self) -> list[str]:
        """``["sparse", "full", ...]``: the form stored in a model's config.json."""
        return ["full" if flag else "sparse" for flag in self.full]

    @classmethod
    def from_kinds(cls, kinds: list[str]) -> Layout:
        """The inverse of `kinds`. Raises ConfigError for any other word."""
        for index, kind in enumerate(kinds):
            if kind not in ("full", "sparse"):
                raise ConfigError(f"layout[{index}] is {kind!r}: allowed are 'full' and 'sparse'")
        return cls(tuple(kind == "full" for kind in kinds))


def count_full_layers(num_layers: int, full_layers: int | str | float) -> int:
    """Number of full layers that ``full_layers`` means in a model of ``num_layers``.

    Args:
        num_layers: layers of the model.
        full_layers: a count (``12``), a fraction (``"1/3"``), a ratio (``0.33``), ``"all"`` or ``"none"``. Fractions
            and ratios round to the nearest count (1/3 of 32 is 11).

    Raises:
        ConfigError: not a number, or outside 0..num_layers (counts) or 0..1 (fractions and ratios).
    """
    allowed = f"allowed is a count 0..{num_layers}, a fraction such as 1/3 or ratio within 0..1, 'all' or 'none'"
    refused = ConfigError(f"full_layers is {full_layers!r}: {allowed}")
    text = str(full_layers).strip()
    if isinstance(full_layers, bool):
        raise refused
    if text in ("all", "none"):
        return num_layers if text == "all" else 0
    if re.fullmatch(r"\d+", text):
        count = int(text)
    elif re.fullmatch(r"\d+/\d*[1-9]\d*|\d*\.\d+(e-?\d+)?", text):
        ratio = Fraction(text)
        if ratio > 1:
            raise refused
        count = int(ratio * num_layers + Fraction(1, 2))
    else:
        raise refused
    if count > num_layers:
        raise refused
    return count


def make_layout(num_layers: int, full_layers: int | str | float = "1/3", placement: str = "middle") -> Layout:
    """The layout with ``full_layers`` (see `count_full_layers`) placed at ``placement``.

    Raises:
        ConfigError: unknown placement, or a count that does not fit.
    """
    if placement not in PLACEMENTS:
        raise ConfigError(f"placement is {placement!r}: allowed are {', '.join(PLACEMENTS)}")
    count = count_full_layers(num_layers, full_layers)
    chosen = set(PLACEMENTS[placement](num_layers, count)) if count else set()
    return Layout(tuple(layer in chosen for layer in range(num_layers)))


def parse_layout(text: str, num_layers: int) -> Layout:
    """The layout of a command-line word such as ``middle:1/3``, ``ends:12``, ``all`` or ``none``.

    Raises:
        ConfigError: not of that form, or impossible for ``num_layers``.
    """
    if text in ("all", "none"):
        return make_layout(num_layers, text)
    placement, colon, full_layers = text.partition(":")
    if not colon:
        raise ConfigError(f"layout is {text!r}: allowed is PLACEMENT:FULL_LAYERS such as middle:1/3, or 'all', 'none'")
    return make_layout(num_layers, full_layers, placement)
