"""Layouts as sets of layers or KV heads, and the layout that a probe's record asks for; without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from longgen.errors import ArtifactError, ConfigError
from longgen.files import check_fields
from longgen.layout import PROBED, PROBED_HEADS, WORDS, Layout, count_full_layers
from longgen.results import load_result

Flags = bool | tuple[bool, ...]
MADE_BY = "longgen probe MODEL"
BY = {PROBED: "layers", PROBED_HEADS: "heads"}  # placement -> what was probed


def flags_of(layout: Layout) -> tuple[Flags, ...]:
    """For every layer what it keeps, such that equal attention is equal here: heads that all are alike are a layer."""
    return tuple(
        flags if isinstance(flags, bool) or len(set(flags)) > 1 else flags[0]  # of no heads, there is no layout
        for flags in layout.full
    )


def layout_key(layout: Layout) -> str:
    """One letter per layer, f or s, and for a layer that has both those of its KV heads in brackets."""

    def letters(flags: Flags) -> str:
        return WORDS[flags][0] if isinstance(flags, bool) else f"[{''.join(WORDS[flag][0] for flag in flags)}]"

    return "".join(letters(flags) for flags in flags_of(layout))


def layer_evaluations(layouts: Sequence[Layout]) -> int:
    """How many layers of one prompt `SharedPasses.run` computes for ``layouts``: distinct beginnings of them."""
    rows = [flags_of(layout) for layout in layouts]
    return len({row[:depth] for row in rows for depth in range(1, len(row) + 1)})


class Unit(NamedTuple):
    """What is made sparse or kept full as a whole: a layer (``head`` is None), or one of its KV heads."""

    layer: int
    head: int | None = None

    def __str__(self) -> str:
        return str(self.layer) if self.head is None else f"{self.layer}.{self.head}"

    @classmethod
    def parse(cls, text: str) -> Unit:
        """The inverse of `str`. Raises ValueError for anything else."""
        layer, dot, head = text.partition(".")
        return cls(int(layer), int(head) if dot else None)


@dataclass(frozen=True)
class Units:
    """All units of a model.

    Attributes:
        num_layers: of the model.
        num_kv_heads: of each layer.
        by_heads: whether units are KV heads, otherwise layers.
    """

    num_layers: int
    num_kv_heads: int
    by_heads: bool = False

    @property
    def all(self) -> list[Unit]:
        """From the bottom up."""
        heads: list[int | None] = list(range(self.num_kv_heads)) if self.by_heads else [None]
        return [Unit(layer, head) for layer in range(self.num_layers) for head in heads]

    @property
    def per_layer(self) -> int:
        """How many make a layer."""
        return self.num_kv_heads if self.by_heads else 1

    def layout(self, full: Iterable[Unit]) -> Layout:
        """The layout in which the units ``full`` keep full attention, and the others are sparse."""
        chosen: Collection[Unit] = set(full)
        if not self.by_heads:
            return Layout(tuple(Unit(layer) in chosen for layer in range(self.num_layers)))
        heads = range(self.num_kv_heads)
        return Layout(tuple(tuple(Unit(layer, head) in chosen for head in heads) for layer in range(self.num_layers)))


def record_name(placement: str) -> str:
    """Name of the results file that says where ``probed`` or ``probed-heads`` are: a run may hold both."""
    return f"probe{placement.removeprefix(PROBED)}.json"


def probed_layout(text: str, records: Sequence[Probe], num_layers: int, num_kv_heads: int) -> Layout:
    """The layout that ``text`` asks for of the one of ``records`` that is by layers, or by heads, as it is.

    Raises:
        ConfigError: there is none, or as `Probe.layout`.
    """
    by_heads = text.partition(":")[0] == PROBED_HEADS
    for record in records:
        if record.units.by_heads == by_heads:
            return record.layout(text, num_layers, num_kv_heads)
    by = BY[PROBED_HEADS if by_heads else PROBED]
    raise ConfigError(f"layout is {text!r}: allowed is that with --probe, the record of a probe by {by} (`{MADE_BY}`)")


def is_probed(text: str) -> bool:
    """Whether ``text``, as `longgen.layout.parse_layout` takes it, asks for the layout of a probe."""
    return text.partition(":")[0] in BY


@dataclass(frozen=True)
class Probe:
    """What a probe's results file says that decides layouts.

    Attributes:
        path: the file.
        units: what was probed.
        order: all units, in the order in which they should be full.
        weights: fingerprint of the model's weights (`fingerprint_weights`).
    """

    path: Path
    units: Units
    order: tuple[Unit, ...]
    weights: str

    def layout(self, text: str, num_layers: int, num_kv_heads: int) -> Layout:
        """The layout that ``text`` such as ``probed:1/6`` asks for.

        Args:
            text: ``probed:FULL_LAYERS`` for the record of a probe by layers, ``probed-heads:FULL_LAYERS`` by heads.
            num_layers: of the model that it is for.
            num_kv_heads: of the same.

        Raises:
            ConfigError: not of that form, or for another model than the one that was probed.
        """
        placement, colon, full_layers = text.partition(":")
        if not colon or placement not in BY:
            raise ConfigError(f"layout is {text!r} with a probe: allowed are {' and '.join(BY)}, such as {PROBED}:1/6")
        by = BY[PROBED_HEADS if self.units.by_heads else PROBED]
        if BY[placement] != by:
            raise ConfigError(f"layout is {text!r}: {self.path} is a probe by {by}, and {BY[placement]} are asked for")
        sizes = (self.units.num_layers, self.units.num_kv_heads)
        if sizes != (num_layers, num_kv_heads):
            raise ConfigError(
                f"{self.path} is a probe of {sizes[0]} layers with {sizes[1]} KV heads each: the model has "
                f"{num_layers} with {num_kv_heads}"
            )
        count = count_full_layers(num_layers, full_layers)
        return self.units.layout(self.order[: count * self.units.per_layer])

    def check_weights(self, weights: str, where: str) -> None:
        """Raise ConfigError unless ``weights`` is the fingerprint of the model that was probed."""
        if weights != self.weights:
            raise ConfigError(
                f"{self.path} is a probe of another model (weights {self.weights}) than {where} (weights {weights}): "
                f"`{MADE_BY}` probes this one"
            )


def read_probe(path: Path) -> Probe:
    """The record that `longgen probe` wrote.

    Raises:
        ArtifactError: missing, or no such record.
    """
    result = load_result(path, MADE_BY)
    if result.kind != "probe":
        raise ArtifactError(f"{path} is of kind {result.kind!r}: allowed is 'probe', as `{MADE_BY}` makes it")
    settings, advice = result.settings, f"`{MADE_BY}` makes it anew"
    check_fields(f"{path}: settings", settings, advice, model=dict, by=str, order=list, weights=str)
    model: dict[str, Any] = settings["model"]
    check_fields(f"{path}: settings.model", model, advice, num_layers=int, num_kv_heads=int)
    units = Units(model["num_layers"], model["num_kv_heads"], settings["by"] == BY[PROBED_HEADS])
    try:
        order = tuple(Unit.parse(text) for text in settings["order"])
    except (ValueError, AttributeError):
        order = ()
    if sorted(order, key=str) != sorted(units.all, key=str):
        raise ArtifactError(f"{path}: settings.order does not name every layer or head once: {advice}")
    return Probe(path, units, order, settings["weights"])
