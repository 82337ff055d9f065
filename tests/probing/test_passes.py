"""Shared forward passes against whole ones."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from longgen.errors import ArtifactError
from longgen.layout import Layout, make_layout
from longgen.modeling.configuration import head_groups_of
from longgen.pattern import SparsePattern
from longgen.probed_layout import Units, layer_evaluations
from longgen.probing.passes import PromptLosses, SharedPasses
from longgen.probing.prompts import Prompt
from longgen.probing.search import single_sets
from tests.modeling.models import tiny_hybrid, tokens
from tests.modeling.test_families import MORE, base_of
from tests.modeling.test_families import hybrid_of as hybrid_from

PATTERN = SparsePattern(4, 1, 2)
MIXED = Layout(((True, False), True, (False, True), False, False, (True, True)))


def _prompt(length: int = 60) -> Prompt:
    row = tokens(length, batch=1)[0].numpy()
    return Prompt(row, np.array([41, 42, 50, 59]), np.array([17, 30, 33]))


def _whole(model, prompt: Prompt, layout: Layout, pattern: SparsePattern) -> PromptLosses:
    """Of a whole forward pass of another model with the same weights, all of its logits, and this very layout."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.longgen = {"layout": layout.kinds(), "pattern": pattern.to_dict()}
    other = type(model)(config).to(model.dtype)
    other.load_state_dict(model.state_dict())
    row = torch.from_numpy(prompt.tokens)
    with torch.no_grad():
        logits = other.eval()(row[None], use_cache=False).logits[0]
    nll = F.cross_entropy(logits[:-1], row[1:], reduction="none")
    return PromptLosses(*(nll[places - 1].mean().item() for places in (prompt.answers, prompt.text)))


def _run(model, layouts: list[Layout], pattern: SparsePattern = PATTERN) -> tuple[list[PromptLosses], int]:
    found: dict[int, PromptLosses] = {}
    counted: list[int] = []
    SharedPasses(model, pattern).run(_prompt(), layouts, found.__setitem__, lambda: counted.append(1))
    assert sorted(found) == list(range(len(layouts)))
    return [found[index] for index in range(len(layouts))], len(counted)


@pytest.mark.parametrize("pattern", [PATTERN, SparsePattern(4, 1, 2, 5, staggered=True)], ids=["sink", "staggered"])
def test_losses_are_those_of_whole_passes(pattern):
    model = tiny_hybrid(pattern=SparsePattern(8, 1, 3)).double()
    placed = [make_layout(6, 2, name) for name in ("middle", "ends", "interleaved", "top")]
    layouts = [each.layout for each in single_sets(Units(6, 2))] + placed + [MIXED, make_layout(6, "1/3", "heads", 2)]
    losses, count = _run(model, layouts, pattern)
    for layout, found in zip(layouts, losses, strict=True):
        np.testing.assert_allclose(found, _whole(model, _prompt(), layout, pattern), rtol=1e-12)
    assert count == layer_evaluations(layouts) < 6 * len(layouts)
    assert len({loss.answers for loss in losses}) == len(layouts)  # every layer and head makes a difference


@pytest.mark.parametrize("family", [*MORE, "qwen3"])
def test_losses_of_every_familys_own_forward_pass(family):
    model = (hybrid_from(base_of(family), "all") if family in MORE else tiny_hybrid(family, "all")).double()
    layouts = [make_layout(model.config.num_hidden_layers, count, "bottom") for count in (0, 1, "all")]
    losses, _ = _run(model, layouts)
    for layout, found in zip(layouts, losses, strict=True):
        np.testing.assert_allclose(found, _whole(model, _prompt(), layout, PATTERN), rtol=1e-12)


def test_a_ranking_costs_half_of_the_passes_that_it_stands_for():
    units = Units(30, 3)
    single = [each.layout for each in single_sets(units)]
    # all full; every layer sparse and those above it; all sparse but for its first layer, which one of these has
    assert layer_evaluations(single) == 30 + 30 * 31 // 2 + 29
    heads = [each.layout for each in single_sets(Units(30, 3, by_heads=True))]
    assert layer_evaluations(heads) == 30 + 3 * 30 * 31 // 2 + 30  # a sparse layer is none of its heads


def test_equal_attention_is_computed_once_however_it_is_written():
    layers, heads = make_layout(6, 2, "bottom"), Layout(((True, True),) * 2 + ((False, False),) * 4)
    (first, second), count = _run(tiny_hybrid(), [layers, heads])
    assert (first, count) == (second, 6)


def test_the_model_has_its_own_layout_again_also_after_an_error():
    model = tiny_hybrid()
    _run(model, [make_layout(6, "none")])
    model.model.layers[3].mlp.up_proj.weight.data.fill_(float("nan"))
    with pytest.raises(ArtifactError, match="the loss is not a number"):
        _run(model, [make_layout(6, "none")])
    own = [layer.self_attn.head_groups for layer in model.model.layers]
    assert own == head_groups_of(model.config)
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)


def test_few_hidden_states_are_kept(monkeypatch):
    """A ranking that kept those of every layer would need a model's depth of them."""
    kept: list[int] = []
    layer = SharedPasses._layer
    alive: list[weakref.ref] = []

    def counted(self, depth, flags, hidden, arguments):
        output = layer(self, depth, flags, hidden, arguments)
        alive.append(weakref.ref(output))
        kept.append(sum(each() is not None for each in alive))
        return output

    monkeypatch.setattr(SharedPasses, "_layer", counted)
    _run(tiny_hybrid(), [each.layout for each in single_sets(Units(6, 2, by_heads=True))])
    assert max(kept) <= 5  # log2 of 14 layouts, and the one that is being made
