"""Ranking and greedy choice: against brute force, and on models in which the answer is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from longgen.layout import Layout, make_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.probed_layout import Unit, Units, layer_evaluations, layout_key
from longgen.probing import search
from longgen.probing.passes import SharedPasses
from longgen.probing.prompts import Prompt
from longgen.probing.store import open_store
from tests.modeling.models import tokens
from tests.probing.models import probed_model

PATTERN = SparsePattern(8, 1, 2)


def prompts(model, count: int = 3) -> list[Prompt]:
    """Rows whose answer is what the model with all layers full says: anything else makes the loss larger."""
    rows = torch.cat([tokens(96, batch=1, seed=seed) for seed in range(count)])
    with torch.no_grad():
        rows[:, -1] = model(rows, use_cache=False).logits[:, -2].argmax(-1)
    return [Prompt(row.numpy(), np.array([95]), np.array([40, 50])) for row in rows]


def measured(tmp_path, attending=None, layers: int = 4):
    """What measures layouts of a tiny model."""
    base = probed_model(layers, attending)
    config = longgen_config(base.config, make_layout(layers, "all"), PATTERN)
    model = longgen_classes("llama")[1](config)
    model.load_state_dict(base.state_dict())
    model.double().eval()
    passes, rows = SharedPasses(model, PATTERN), prompts(model)

    def measure(layouts: Sequence[Layout]) -> np.ndarray:
        with open_store(tmp_path / "measurements.jsonl", "this", rows, math.inf) as store:
            store.measure(passes, layouts)
            return np.stack([store.answers(layout) for layout in layouts])

    return measure


@pytest.mark.parametrize("layer", range(4))
def test_the_only_layer_that_attends_is_ranked_first(tmp_path, layer):
    units, measure = Units(4, 2), measured(tmp_path, {layer: None})
    assert search.rank(units, measure)[0] == Unit(layer)
    losses = measure([each.layout for each in search.single_sets(units)])
    others = [index for index in range(4) if index != layer]
    np.testing.assert_array_equal(losses[2:][others], np.stack([losses[0]] * 3))  # cost nothing
    np.testing.assert_array_equal(losses[2 + layer], losses[1])  # all sparse
    (first, *_), *_ = search.greedy(units, search.grouped(units.all, 1, 4), 1, measure)
    assert (first.name, first.unit) == ("greedy", Unit(layer))


def test_the_only_head_that_attends_is_ranked_first(tmp_path):
    units = Units(4, 2, by_heads=True)
    for layer, head in ((1, 1), (3, 0)):
        ranked = search.rank(units, measured(tmp_path / str(layer), {layer: head}))
        assert ranked[0] == Unit(layer, head)
        assert sorted(ranked, key=str) == sorted(units.all, key=str)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_greedy_is_what_brute_force_chooses_step_by_step(tmp_path, steps):
    units, measure = Units(4, 2), measured(tmp_path)
    found = list(search.greedy(units, search.grouped(units.all, 1, 4), steps, measure))
    chosen: list[int] = []
    for step in found:
        left = [layer for layer in range(4) if layer not in chosen]
        means = {layer: measure([_layout(*chosen, layer)]).mean() for layer in left}
        best = min(means, key=lambda layer: means[layer])
        chosen.append(best)
        assert (step[0].name, step[0].unit, step[0].layout) == ("greedy", Unit(best), _layout(*chosen))
        assert {layout_key(each.layout) for each in step[1:]} == {
            layout_key(_layout(*chosen[:-1], layer)) for layer in left if layer != best
        }
    assert len(found) == steps


def test_the_first_greedy_layer_is_the_best_of_all_single_ones(tmp_path):
    measure = measured(tmp_path)
    (first, *_), *_ = search.greedy(Units(4, 2), [(Unit(layer),) for layer in range(4)], 1, measure)
    losses = [measure([_layout(layer)]).mean() for layer in range(4)]
    assert first.unit == Unit(int(np.argmin(losses)))


def _layout(*full: int) -> Layout:
    return Layout(tuple(layer in full for layer in range(4)))


def test_groups_of_heads_follow_the_ranking():
    ranked = [Unit(layer, head) for layer, head in itertools.product(range(3), range(2))][::-1]
    assert search.grouped(ranked, 2, 2) == [(Unit(2, 1), Unit(2, 0)), (Unit(1, 1), Unit(1, 0))]


def test_curves_have_the_ranked_and_the_placed_at_the_same_counts():
    units = Units(12, 2)
    sets = search.curve_sets(units, [Unit(layer) for layer in (5, 3, *range(3), 4, *range(6, 12))], ("middle",), 4)
    counts = {name: [each.layout.num_full for each in sets if each.name == name] for name in ("ranked", "middle")}
    assert counts == {"ranked": [1, 2, 3, 4, 6, 8], "middle": [1, 2, 3, 4, 6, 8]}
    ranked = {each.layout.num_full: each.layout for each in sets if each.name == "ranked"}
    assert layout_key(ranked[2]) == "sssfsfssssss"
    assert {each.layout for each in sets if each.name == "middle"} == {
        make_layout(12, count, "middle") for count in (1, 2, 3, 4, 6, 8)
    }


@pytest.mark.parametrize("choices", list(itertools.permutations(range(3))))
def test_the_greedy_choice_needs_no_more_than_was_said(choices):
    """Whatever it chooses; and as much where the cheapest candidate always wins."""
    units, groups = Units(8, 2), [(Unit(2),), (Unit(5),), (Unit(6),)]
    order, needed = [groups[index] for index in choices], 0

    def measure(layouts: Sequence[Layout]) -> np.ndarray:
        nonlocal needed
        needed += layer_evaluations(layouts)
        wanted = order[3 - len(layouts)][0].layer
        return np.array([[0.0 if layout.full[wanted] else 1.0] for layout in layouts])

    chosen = [step[0].unit for step in search.greedy(units, groups, 3, measure)]
    assert chosen == [group[0] for group in order]
    most = search.most_evaluations_of_greedy(units, groups, 3)
    assert needed == most if choices == (2, 1, 0) else needed <= most


def test_equal_candidates_are_taken_from_the_first_on():
    units, groups = Units(4, 2), [(Unit(3),), (Unit(1),)]
    steps = list(search.greedy(units, groups, 2, lambda layouts: np.zeros((len(layouts), 1))))
    assert [step[0].unit for step in steps] == [Unit(3), Unit(1)]
    assert search.rank(units, lambda layouts: np.zeros((len(layouts), 1))) == units.all
