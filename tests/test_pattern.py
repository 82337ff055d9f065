"""The one rule of who sees whom, and all that is counted from it, against a dense mask spelled out in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longgen.errors import ConfigError
from longgen.pattern import SparsePattern, dense_pairs
from longgen.reporting.figures.pattern import roles

patterns = st.builds(
    SparsePattern,
    block_size=st.integers(1, 7),
    sink_blocks=st.integers(0, 4),
    local_blocks=st.integers(1, 5),
    stride=st.sampled_from([0, 2, 3, 5]),
)
offsets = st.integers(0, 4)
lengths = st.integers(1, 70)


def dense_mask(pattern: SparsePattern, length: int, head_offset: int = 0) -> np.ndarray:
    """[length, length] booleans, query by key: the definition in words, token by token, without `SparsePattern`."""
    mask = np.zeros((length, length), dtype=bool)
    for query in range(length):
        for key in range(query + 1):
            query_block, key_block = query // pattern.block_size, key // pattern.block_size
            sink = key_block < pattern.sink_blocks
            local = query_block - key_block < pattern.local_blocks
            strided = pattern.stride > 0 and (key_block + 1 + head_offset) % pattern.stride == 0
            mask[query, key] = sink or local or strided
    return mask


@given(patterns, lengths, offsets)
def test_allowed_is_the_rule(pattern: SparsePattern, length: int, head_offset: int) -> None:
    position = np.arange(length)
    allowed = pattern.allowed(position[:, None], position[None, :], head_offset)
    np.testing.assert_array_equal(allowed, dense_mask(pattern, length, head_offset))


@given(patterns, st.integers(0, 20), st.integers(0, 20), offsets)
def test_visible_is_any_token_of_the_block(pattern: SparsePattern, query: int, key: int, head_offset: int) -> None:
    size = pattern.block_size
    mask = dense_mask(pattern, size * (max(query, key) + 1), head_offset)
    block = mask[query * size : (query + 1) * size, key * size : (key + 1) * size]
    assert bool(pattern.visible(query, key, head_offset)) == block.any()
    if query > key:  # an earlier block is seen whole or not at all
        assert block.any() == block.all()


@given(patterns, st.integers(0, 30), offsets)
def test_visible_blocks(pattern: SparsePattern, query_block: int, head_offset: int) -> None:
    expected = [key for key in range(query_block + 1) if pattern.visible(query_block, key, head_offset)]
    assert pattern.visible_blocks(query_block, head_offset).tolist() == expected
    assert expected[-1] == query_block


@given(patterns, lengths, offsets)
def test_kept_positions_are_what_any_future_query_sees(pattern: SparsePattern, seen: int, head_offset: int) -> None:
    # as many future tokens as it takes for the window to pass everything
    future = (pattern.local_blocks + 1) * pattern.block_size
    union = dense_mask(pattern, seen + future, head_offset)[seen:, :seen].any(axis=0)
    kept = pattern.kept_positions(seen, head_offset)
    np.testing.assert_array_equal(kept, np.flatnonzero(union))
    assert pattern.kept_count(seen, head_offset) == union.sum()


@given(patterns, lengths, offsets)
def test_what_is_out_of_sight_stays_out(pattern: SparsePattern, length: int, head_offset: int) -> None:
    mask = dense_mask(pattern, length, head_offset)
    for key in range(length):
        column = mask[key:, key].astype(int)
        assert (np.diff(column) <= 0).all()


@given(patterns, lengths, offsets)
def test_a_slot_is_reused_only_after_its_token_went_out_of_sight(
    pattern: SparsePattern, length: int, head_offset: int
) -> None:
    owner: dict[int, int] = {}
    for seen in range(length):
        kept = pattern.kept_positions(seen, head_offset).tolist()
        assert all(owner[pattern.slot(position, head_offset)] == position for position in kept)
        owner[pattern.slot(seen, head_offset)] = seen
    count = pattern.slot_count(length, head_offset)
    assert max(owner) < count
    lasting = [block for block in range(-(-length // pattern.block_size)) if pattern.visible(1000, block, head_offset)]
    assert count == (pattern.local_blocks + len(lasting)) * pattern.block_size
    positions = np.arange(length)
    slots = [pattern.slot(position, head_offset) for position in range(length)]
    np.testing.assert_array_equal(pattern.slot(positions, head_offset), slots)
    np.testing.assert_array_equal(pattern.slot(torch.from_numpy(positions), head_offset).numpy(), slots)


@given(patterns, lengths, offsets)
def test_attended_pairs(pattern: SparsePattern, length: int, head_offset: int) -> None:
    assert pattern.attended_pairs(length, head_offset) == dense_mask(pattern, length, head_offset).sum()


def test_attended_pairs_of_a_million_tokens() -> None:
    # Steady state by hand: every query sees 15 earlier window blocks and the sink, and half of its own block.
    pattern, length = SparsePattern(block_size=64, sink_blocks=1, local_blocks=16), 2**20
    warm_up = 17 * 64  # up to here everything is seen, and no more than everything can be
    steady = (length - warm_up) * 16 * 64 + (length - warm_up) // 64 * (64 * 65 // 2)
    assert pattern.attended_pairs(length) == dense_pairs(warm_up) + steady
    assert SparsePattern(64, 1, 2**40).attended_pairs(2**40) == dense_pairs(2**40), "in no time, and to the last digit"


@pytest.mark.parametrize(
    ("stride", "num_kv_heads", "expected"),
    [(4, 4, (0, 1, 2, 3)), (4, 8, (0, 0, 1, 1, 2, 2, 3, 3)), (16, 4, (0, 4, 8, 12)), (3, 1, (0,))],
)
def test_staggered_offsets_spread_over_the_stride(stride: int, num_kv_heads: int, expected: tuple[int, ...]) -> None:
    assert SparsePattern(stride=stride, staggered=True).head_offsets(num_kv_heads) == expected
    assert set(SparsePattern(stride=stride).head_offsets(num_kv_heads)) == {0}


@given(st.integers(2, 6), st.integers(1, 4), st.integers(1, 30))
def test_staggered_heads_see_everything_together(stride: int, local_blocks: int, query_block: int) -> None:
    pattern = SparsePattern(block_size=4, sink_blocks=0, local_blocks=local_blocks, stride=stride)
    seen = [pattern.visible_blocks(query_block, head_offset).tolist() for head_offset in range(stride)]
    assert set().union(*seen) == set(range(query_block + 1))
    beyond = [[block for block in blocks if query_block - block >= local_blocks] for blocks in seen]
    assert sum(map(len, beyond)) == max(0, query_block + 1 - local_blocks)  # and none twice, the window aside


@given(st.integers(0, 80))
def test_dense_pairs(length: int) -> None:
    assert dense_pairs(length) == np.tri(length).sum()


def test_dictionary_round_trip() -> None:
    pattern = SparsePattern(block_size=8, sink_blocks=0, local_blocks=3, stride=5)
    assert SparsePattern(**pattern.to_dict()) == pattern


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_size", 0),
        ("block_size", 64.0),
        ("sink_blocks", -1),
        ("local_blocks", 0),
        ("local_blocks", True),
        ("stride", 1),
        ("stride", -2),
    ],
)
def test_impossible_sizes_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} is {value}.*allowed is"):
        SparsePattern(**{name: value})  # type: ignore[arg-type]


def test_without_a_stride_there_is_nothing_to_stagger() -> None:
    assert SparsePattern(8, 1, 4, stride=4, staggered=True).without_stride() == SparsePattern(8, 1, 4)
    drawn = [roles(SparsePattern(8, 1, 4, stride=4, staggered=staggered), 16) for staggered in (False, True)]
    assert np.array_equal(*drawn)


def test_staggered_needs_a_stride() -> None:
    with pytest.raises(ConfigError, match="staggered is true: allowed is false where stride is 0"):
        SparsePattern(staggered=True)
    with pytest.raises(ConfigError, match="staggered is 1: allowed are true and false"):
        SparsePattern(stride=4, staggered=1)  # type: ignore[arg-type]
