"""The arithmetic of up-sampling, by golden cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.data.packing.methods import METHODS
from longgen.data.packing.quotas import apportion, draw, long_share
from longgen.data.packing.settings import UpsamplingSettings
from longgen.data.packing.table import DocumentTable, first_of_each
from longgen.errors import ArtifactError, ConfigError
from tests.data.packing.corpora import settings, source, upsampled


def table(lengths: list[int], domains: list[int], unique: list[bool] | None = None) -> DocumentTable:
    count = len(lengths)
    names = ["a", "b", "c"][: max(domains) + 1]
    flags = np.array([True] * count if unique is None else unique)
    sizes = np.array(lengths, np.int64)
    return DocumentTable(names, np.array(domains, np.int32), sizes, flags, [], np.array([0, count]), sizes, "uint16")


def used(plan, documents: DocumentTable, chosen: np.ndarray) -> int:
    (stream,) = plan.streams
    return int((stream.stops - stream.starts)[chosen[stream.documents]].sum())


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [(10, [1, 1, 1], [4, 3, 3]), (7, [5, 3, 2], [4, 2, 1]), (3, [0.5, 0.5], [2, 1]), (0, [1, 2], [0, 0])],
)
def test_apportion(total, weights, parts):
    assert apportion(total, np.array(weights)).tolist() == parts


@given(st.integers(0, 5_000_000_000), st.lists(st.floats(0.001, 1e9), min_size=1, max_size=9))
def test_apportion_adds_up_and_is_off_by_less_than_one(total, weights):
    parts, exact = apportion(total, np.array(weights)), total * np.array(weights) / sum(weights)
    assert parts.sum() == total
    assert (np.abs(parts - exact) < 1 + 1e-6 * exact).all()


@pytest.mark.parametrize(
    ("given_", "natural", "share"),
    [
        # what is left of 70 short tokens is 7: 30 / 37; the released code's ratio of 0.1
        ({"factor": 10}, 0.3, 30 / 37),
        ({"factor": 1}, 0.3, 0.3),
        ({"factor": 10}, 0.0, 0.0),
        ({"factor": 10}, 1.0, 1.0),
        ({"share": 0.7}, 0.3, 0.7),
        ({"share": 0.7}, 0.9, 0.9),
    ],
)
def test_long_share(given_, natural, share):
    assert long_share(natural, UpsamplingSettings(**given_)) == pytest.approx(share)


def test_draw_gives_the_quota_and_uses_all_before_any_again():
    usable = np.array([5, 7, 0, 11])
    documents, tokens = draw(usable, np.array([0, 1, 3]), 30, 2, np.random.default_rng(0), "all")
    assert tokens.sum() == 30
    assert sorted(documents[:3]) == [0, 1, 3]
    assert (tokens[:-1] == usable[documents[:-1]]).all()
    assert 0 < tokens[-1] <= usable[documents[-1]]
    with pytest.raises(ArtifactError, match=r"47 tokens are wanted from all, which have 23, each used at most 2 times"):
        draw(usable, np.array([0, 1, 3]), 47, 2, np.random.default_rng(0), "all")


# domain a: 8 documents of 100 and 20 of 10 (80 % long); domain b: 2 of 100 and 80 of 10 (20 % long)
LENGTHS = [100] * 8 + [10] * 20 + [100] * 2 + [10] * 80
IN_A = [True] * 28 + [False] * 82
WORLD = table(LENGTHS, [0 if flag else 1 for flag in IN_A])


def test_per_source_keeps_the_mixture_and_raises_the_long_share_in_each_domain():
    chosen = upsampled(settings(source(Path("x")), lengths=[20], token_budget=400), factor=4)
    plan = METHODS["per-source"](WORLD, chosen)
    in_a, is_long = np.array(IN_A), WORLD.lengths >= 64
    # a and b have 1,000 tokens each: half of the budget each, though a has four times the long ones
    assert [used(plan, WORLD, in_a), used(plan, WORLD, ~in_a)] == [200, 200]
    # a: 4 * 0.8 / (4 * 0.8 + 0.2) = 16 / 17 of 200; b: 4 * 0.2 / (4 * 0.2 + 0.8) = 1 / 2
    assert [used(plan, WORLD, in_a & is_long), used(plan, WORLD, ~in_a & is_long)] == [188, 100]


def test_global_raises_the_long_share_and_shifts_the_mixture():
    chosen = upsampled(settings(source(Path("x")), lengths=[20], token_budget=800), "global", factor=4)
    plan = METHODS["global"](WORLD, chosen)
    in_a, is_long = np.array(IN_A), WORLD.lengths >= 64
    assert used(plan, WORLD, is_long) == 640  # 4 * 0.5 / (4 * 0.5 + 0.5) of 800
    assert used(plan, WORLD, in_a) > 450, "of 400 before: most long documents are in a"


def test_cut_keeps_the_distribution():
    plan = METHODS["cut"](WORLD, settings(source(Path("x")), lengths=[20], token_budget=2000))
    (stream,) = plan.streams
    assert sorted(stream.documents) == list(range(110))
    assert (stream.stops == WORLD.lengths[stream.documents]).all()


def test_a_given_mixture_replaces_the_one_that_was_read():
    base = upsampled(settings(source(Path("x")), lengths=[20], token_budget=400), factor=4)
    chosen = type(base)(**(vars(base) | {"mixture": {"a": 0.75, "b": 0.25}}))
    plan = METHODS["per-source"](WORLD, chosen)
    assert used(plan, WORLD, np.array(IN_A)) == 300
    other = type(base)(**(vars(base) | {"mixture": {"a": 0.75, "z": 0.25}}))
    with pytest.raises(ConfigError, match="mixture names a, z: allowed are those read, a, b"):
        METHODS["per-source"](WORLD, other)


def test_a_share_beyond_what_there_is_says_of_which_domain_and_repeats_help():
    base = settings(source(Path("x")), lengths=[20], token_budget=800)
    wanted = r"360 tokens are wanted from documents of b of at least 64 tokens, which have 200: .*max_repeats"
    with pytest.raises(ArtifactError, match=wanted):
        METHODS["per-source"](WORLD, upsampled(base, share=0.9))
    plan = METHODS["per-source"](WORLD, upsampled(base, share=0.9, max_repeats=2))
    assert used(plan, WORLD, ~np.array(IN_A) & (WORLD.lengths >= 64)) == 360
    assert np.bincount(plan.documents).max() == 2


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 2), st.booleans()), min_size=3, max_size=60), st.data())
def test_per_source_mixture_for_any_documents(documents, data):
    lengths, domains, unique = (list(column) for column in zip(*documents, strict=True))
    world = table(lengths, domains, unique)
    total = int(world.lengths[world.unique].sum())
    if total < 2:
        return
    base = settings(source(Path("x")), lengths=[2], token_budget=data.draw(st.integers(2, total)))
    chosen = upsampled(base, factor=data.draw(st.floats(1, 20)), max_repeats=1000)
    plan = METHODS["per-source"](world, chosen)
    read = np.bincount(world.domains[world.unique], world.lengths[world.unique], minlength=len(world.names))
    for domain, tokens in enumerate(read):
        got = used(plan, world, world.domains == domain)
        assert abs(got - chosen.tokens * tokens / total) < 1
    assert world.unique[plan.documents].all()
    (stream,) = plan.streams
    assert (stream.stops <= world.lengths[stream.documents]).all()
    assert (stream.stops - stream.starts).sum() == chosen.tokens


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.data())
def test_buckets_cover_documents_from_their_start_without_overlap(lengths, data):
    world = table(lengths, [0] * len(lengths))
    most = sum(length // 8 * 8 for length in lengths)
    if not most:
        return
    budget = data.draw(st.integers(8, most))
    chosen = settings(source(Path("x")), method="buckets", lengths=[8, 16, 64], token_budget=budget)
    plan = METHODS["buckets"](world, chosen)
    assert sum(len(stream.documents) * stream.length for stream in plan.streams) == budget // 8 * 8
    spans: dict[int, list[tuple[int, int]]] = {}
    for stream in plan.streams:
        assert (stream.stops - stream.starts == stream.length).all()
        for document, start, stop in zip(stream.documents, stream.starts, stream.stops, strict=True):
            spans.setdefault(int(document), []).append((int(start), int(stop)))
    for document, found in spans.items():
        found.sort()
        assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
        sizes = [stop - start for start, stop in found]
        assert sizes == sorted(sizes, reverse=True), "longest pieces first"
        assert found[-1][1] <= lengths[document]
    cut = sum(found[-1][1] != lengths[document] // 8 * 8 for document, found in spans.items())
    assert cut <= 1, "only the last document is cut to meet the budget"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_first_of_each(pairs):
    expected = [pair not in pairs[:index] for index, pair in enumerate(pairs)]
    assert first_of_each(np.array(pairs, np.uint64).reshape(-1, 2)).tolist() == expected
