"""Which layers stay full."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.errors import ConfigError
from longgen.layout import PLACEMENTS, Layout, count_full_layers, make_layout, parse_layout


@pytest.mark.parametrize(
    ("full_layers", "count"),
    [
        (12, 12),
        ("12", 12),
        ("1/3", 11),  # 10.67
        (0.33, 11),  # 10.56
        ("0.5", 16),
        ("3/64", 2),  # 1.5: half a layer rounds up
        (0, 0),
        (0.0, 0),
        (1, 1),  # a count, not a ratio
        (1.0, 32),  # a ratio, not a count
        ("32/32", 32),
        ("all", 32),
        ("none", 0),
    ],
)
def test_count(full_layers: int | float | str, count: int) -> None:
    assert count_full_layers(32, full_layers) == count


@pytest.mark.parametrize(
    "full_layers", [33, -1, 1.5, -0.5, "4/3", "1/0", "half", "", True, float("nan"), float("inf"), None, "1/3/5"]
)
def test_impossible_counts_are_refused(full_layers: object) -> None:
    with pytest.raises(ConfigError, match=rf"^full_layers is {re.escape(repr(full_layers))}: allowed is .*0\.\.32"):
        count_full_layers(32, full_layers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("middle", [3, 4, 5]),  # of nine: as many below as above
        ("ends", [0, 1, 8]),  # the odd one goes to the bottom
        ("bottom", [0, 1, 2]),
        ("top", [6, 7, 8]),
        ("interleaved", [1, 4, 7]),
    ],
)
def test_placement(placement: str, expected: list[int]) -> None:
    layout = make_layout(9, 3, placement)
    assert [layer for layer, full in enumerate(layout.full) if full] == expected


def test_middle_of_a_stack_without_a_centre_is_one_layer_nearer_the_bottom() -> None:
    layout = make_layout(32, 11)
    assert [layer for layer, full in enumerate(layout.full) if full] == list(range(10, 21))


@given(st.sampled_from(sorted(PLACEMENTS)), st.integers(1, 90), st.data())
def test_every_placement_places_the_asked_number(placement: str, num_layers: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, num_layers))
    layout = make_layout(num_layers, count, placement)
    assert (layout.num_layers, layout.num_full, layout.num_sparse) == (num_layers, count, num_layers - count)


def test_unknown_placement_is_refused() -> None:
    with pytest.raises(ConfigError, match="placement is 'centre': allowed are middle, ends"):
        make_layout(9, 3, "centre")


def test_kinds_round_trip() -> None:
    layout = make_layout(4, 1, "bottom")
    assert layout.kinds() == ["full", "sparse", "sparse", "sparse"]
    assert Layout.from_kinds(layout.kinds()) == layout
    with pytest.raises(ConfigError, match=r"layout\[1\] is 'dense': allowed are 'full' and 'sparse'"):
        Layout.from_kinds(["full", "dense"])


def test_parse_layout() -> None:
    assert parse_layout("middle:1/3", 32) == make_layout(32, "1/3", "middle")
    assert parse_layout("ends:12", 32) == make_layout(32, 12, "ends")
    assert parse_layout("all", 4).num_full == 4
    assert parse_layout("none", 4).num_full == 0


@pytest.mark.parametrize("text", ["middle", "12", "", "middle:", "middle:33", "centre:2", "middle:1/3:2"])
def test_malformed_layouts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        parse_layout(text, 32)
