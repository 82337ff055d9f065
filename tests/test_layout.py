"""Which layers stay full."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_kinds_by_head_round_trip() -> None:
    layout = Layout((True, (True, False, False), False))
    assert layout.kinds() == ["full", ["full", "sparse", "sparse"], "sparse"]
    assert Layout.from_kinds(layout.kinds()) == layout
    assert layout.num_full == pytest.approx(4 / 3)
    assert layout.num_sparse == pytest.approx(5 / 3)
    assert layout.full_heads(0, 3) == (True, True, True)
    assert layout.full_heads(1, 3) == (True, False, False)
    with pytest.raises(ConfigError, match=r"layout\[1\] has 3 KV heads: the model has 2"):
        layout.full_heads(1, 2)
    with pytest.raises(ConfigError, match=r"layout\[0\]\[1\] is 'dense': allowed are 'full' and 'sparse'"):
        Layout.from_kinds([["full", "dense"]])
    with pytest.raises(ConfigError, match=r"layers of \[1, 2\] KV heads"):
        Layout(((True,), (True, False)))
    with pytest.raises(ConfigError, match="layout is 'full': allowed is a list"):
        Layout.from_kinds("full")


@given(st.integers(1, 60), st.integers(1, 12), st.data())
def test_heads_spread_the_same_budget_over_all_layers(num_layers: int, num_kv_heads: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, num_layers))
    layout = make_layout(num_layers, count, "heads", num_kv_heads)
    assert (layout.num_full, layout.num_sparse) == (count, num_layers - count)  # Layers' worth: equal KV budget
    each = [sum(layout.full_heads(layer, num_kv_heads)) for layer in range(num_layers)]
    assert max(each) - min(each) <= 1


def test_heads_need_their_number() -> None:
    assert parse_layout("heads:1/3", 6, 3).full == ((True, False, False),) * 6
    with pytest.raises(ConfigError, match="placement is 'heads': allowed where the number of KV heads is known"):
        parse_layout("heads:1/3", 6)


def test_layout_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "layout.json"
    path.write_text('["full", ["sparse", "full"], "sparse"]')
    assert parse_layout(str(path), 3, 2).full == (True, (False, True), False)
    with pytest.raises(ConfigError, match=r"layout\.json: layout has 3 layers: the model has 4"):
        parse_layout(str(path), 4, 2)
    path.write_text('["full", "dense"]')
    with pytest.raises(ConfigError, match=r"layout\.json: layout\[1\] is 'dense'"):
        parse_layout(str(path), 2)
    path.write_text('["full"')
    with pytest.raises(ConfigError, match=r"layout\.json: not JSON"):
        parse_layout(str(path), 1)
    with pytest.raises(ConfigError, match=r"absent\.json: No such file"):
        parse_layout(str(tmp_path / "absent.json"), 1)


def test_parse_layout() -> None:
    assert parse_layout("middle:1/3", 32) == make_layout(32, "1/3", "middle")
    assert parse_layout("ends:12", 32) == make_layout(32, 12, "ends")
    assert parse_layout("all", 4).num_full == 4
    assert parse_layout("none", 4).num_full == 0


@pytest.mark.parametrize("text", ["middle", "12", "", "middle:", "middle:33", "centre:2", "middle:1/3:2"])
def test_malformed_layouts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        parse_layout(text, 32)
