"""Which layers, or which heads of them, keep full attention: a count or ratio, and a placement."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

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

# What is made where nothing else is said: the paper's third of the layers, in the middle.
FULL_LAYERS, PLACEMENT = "1/3", "middle"

# Every layer keeps full attention in a share of its KV heads (DuoAttention, Xiao et al. 2024, arXiv 2410.10819).
HEADS = "heads"

# Those that a probe of the model chose (`longgen probe`): whole layers, or KV heads.
PROBED, PROBED_HEADS = "probed", "probed-heads"

WORDS = {True: "full", False: "sparse"}


@dataclass(frozen=True)
class Layout:
    """For every layer, from the bottom up, whether it keeps full attention.

    Attributes:
        full: one entry per layer: True keeps full attention, False is a sparse layer, and a tuple of flags says it for
            every KV head (with its group of query heads).

    Raises:
        ConfigError: layers that are given by heads differ in their number of KV heads.
    """

    full: tuple[bool | tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        counts = sorted({len(flags) for flags in self.full if isinstance(flags, tuple)})
        if len(counts) > 1 or counts == [0]:
            raise ConfigError(f"layout has layers of {counts} KV heads: allowed is one number >= 1 for all layers")

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self.full)

    @property
    def num_full(self) -> int | float:
        """Layers' worth of full attention: a layer that keeps it in a third of its heads counts a third."""
        return _plain(sum((_share(flags) for flags in self.full), Fraction(0)))

    @property
    def num_sparse(self) -> int | float:
        """Layers' worth of sparse attention."""
        return _plain(self.num_layers - sum((_share(flags) for flags in self.full), Fraction(0)))

    def full_heads(self, layer: int, num_kv_heads: int) -> tuple[bool, ...]:
        """One flag per KV head of ``layer``. Raises ConfigError if the layout is for another number of KV heads."""
        flags = self.full[layer]
        if isinstance(flags, bool):
            return (flags,) * num_kv_heads
        if len(flags) != num_kv_heads:
            raise ConfigError(f"layout[{layer}] has {len(flags)} KV heads: the model has {num_kv_heads}")
        return flags

    def kinds(self) -> list[str | list[str]]:
        """``["sparse", "full", ["full", "sparse"], ...]``: the form stored in a model's config.json."""
        return [WORDS[f] if isinstance(f, bool) else [WORDS[flag] for flag in f] for f in self.full]

    @classmethod
    def from_kinds(cls, kinds: Any) -> Layout:
        """The inverse of `kinds`. Raises ConfigError for any other word."""
        if not isinstance(kinds, (list, tuple)):
            raise ConfigError(f"layout is {kinds!r}: allowed is a list with an entry per layer")
        return cls(
            tuple(
                tuple(_flag(word, f"layout[{layer}][{head}]") for head, word in enumerate(kind))
                if isinstance(kind, (list, tuple))
                else _flag(kind, f"layout[{layer}]")
                for layer, kind in enumerate(kinds)
            )
        )


def _flag(word: Any, where: str) -> bool:
    if word not in WORDS.values():
        raise ConfigError(f"{where} is {word!r}: allowed are 'full' and 'sparse'")
    return bool(word == WORDS[True])


def _share(flags: bool | tuple[bool, ...]) -> Fraction:
    return Fraction(int(flags)) if isinstance(flags, bool) else Fraction(sum(flags), len(flags))


def _plain(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


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
    error = ConfigError(f"full_layers is {full_layers!r}: {allowed}")
    text = str(full_layers).strip()
    if isinstance(full_layers, bool):
        raise error
    if text in ("all", "none"):
        return num_layers if text == "all" else 0
    if re.fullmatch(r"\d+", text):
        count = int(text)
    elif re.fullmatch(r"\d+/\d*[1-9]\d*|\d*\.\d+(e-?\d+)?", text):
        ratio = Fraction(text)
        if ratio > 1:
            raise error
        count = int(ratio * num_layers + Fraction(1, 2))
    else:
        raise error
    if count > num_layers:
        raise error
    return count


def make_layout(
    num_layers: int,
    full_layers: int | str | float = FULL_LAYERS,
    placement: str = PLACEMENT,
    num_kv_heads: int | None = None,
) -> Layout:
    """The layout with ``full_layers`` (see `count_full_layers`) placed at ``placement``.

    Args:
        num_layers: layers of the model.
        full_layers: layers' worth of full attention.
        placement: a name in `PLACEMENTS`; or `HEADS`: as many heads as those layers have, hence the same KV budget, but
            spread over all layers, the first ones of each (our choice: which of them retrieve is left to fine-tuning).
        num_kv_heads: of the model; needed by `HEADS` only.

    Raises:
        ConfigError: unknown placement, or a count that does not fit.
    """
    count = count_full_layers(num_layers, full_layers)
    if placement == HEADS:
        if num_kv_heads is None:
            raise ConfigError(f"placement is {HEADS!r}: allowed where the number of KV heads is known")
        return spread_over_heads(num_layers, num_kv_heads, count * num_kv_heads)
    if placement not in PLACEMENTS:
        hint = f"; {placement} needs the record of a probe (--probe)" if placement in (PROBED, PROBED_HEADS) else ""
        raise ConfigError(f"placement is {placement!r}: allowed are {', '.join((*PLACEMENTS, HEADS))}{hint}")
    full = set(PLACEMENTS[placement](num_layers, count)) if count else set()
    return Layout(tuple(layer in full for layer in range(num_layers)))


def spread_over_heads(num_layers: int, num_kv_heads: int, full_heads: int) -> Layout:
    """The layout with ``full_heads`` of all KV heads full (0..num_layers x num_kv_heads), spread as `HEADS` says."""
    each, rest = divmod(full_heads, num_layers)
    richer = _interleaved(num_layers, rest) if rest else set()
    counts = [each + (layer in richer) for layer in range(num_layers)]
    return Layout(tuple(tuple(head < count for head in range(num_kv_heads)) for count in counts))


def parse_layout(text: str, num_layers: int, num_kv_heads: int | None = None) -> Layout:
    """The layout of a command-line word.

    Args:
        text: ``middle:1/3``, ``ends:12``, ``heads:1/3``, ``all``, ``none``; or the path of a .json file with one entry
            per layer: "full", "sparse", or a list of these words, one per KV head.
        num_layers: layers of the model.
        num_kv_heads: of the model; needed where layers are told apart by head.

    Raises:
        ConfigError: not of that form, or impossible for ``num_layers``.
    """
    if text in ("all", "none"):
        return make_layout(num_layers, text)
    if text.endswith(".json"):
        return _read_layout(Path(text), num_layers)
    placement, colon, full_layers = text.partition(":")
    if not colon:
        raise ConfigError(
            f"layout is {text!r}: allowed is PLACEMENT:FULL_LAYERS such as middle:1/3, 'all', 'none' or a .json file"
        )
    return make_layout(num_layers, full_layers, placement, num_kv_heads)


def _read_layout(path: Path, num_layers: int) -> Layout:
    try:
        layout = Layout.from_kinds(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: allowed is a JSON list with an entry per layer") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}): allowed is a JSON list with an entry per layer") from None
    if layout.num_layers != num_layers:
        raise ConfigError(f"{path}: layout has {layout.num_layers} layers: the model has {num_layers}")
    return layout
