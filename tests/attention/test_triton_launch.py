"""What the launch code of the kernels decides before any kernel runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.attention.call import AttentionCall
from longgen.attention.triton_attention import far_tiles
from longgen.attention.triton_launch import evenly_spread
from longgen.pattern import SparsePattern

patterns = st.builds(
    SparsePattern,
    block_size=st.sampled_from([16, 32]),
    sink_blocks=st.integers(0, 3),
    local_blocks=st.integers(1, 5),
    stride=st.sampled_from([0, 2, 3, 5]),
)


@given(pattern=patterns, kv_len=st.integers(1, 900), offsets=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_far_tiles_are_those_that_some_query_beyond_the_window_sees(pattern, kv_len, offsets):
    blocks = range(-(-kv_len // pattern.block_size))
    most = 0
    for offset in offsets:
        far = {
            key
            for query in blocks
            for key in blocks
            if query - key >= pattern.local_blocks and pattern.visible(query, key, offset)
        }
        most = max(most, len(far))
    call = AttentionCall(pattern, 1.0, 0, tuple(offsets))
    assert far_tiles(call, kv_len, 16) == most * pattern.block_size // 16


@pytest.mark.parametrize(("stride", "expected"), [(0, 1), (16, 1 + 127)])
def test_at_128k_the_long_columns_are_the_sink_and_the_strided_blocks(stride, expected):
    call = AttentionCall(SparsePattern(64, 1, 16, stride), 1.0, 0, (0,) * 32)
    assert far_tiles(call, 131072, 64) == expected


def test_head_offsets_are_the_same_or_evenly_spread():
    pattern = SparsePattern(16, 1, 2, 8)
    for offsets, expected in (((3, 3), (3, False)), ((0, 4), (0, True)), ((1, 3, 5, 7), (1, True))):
        assert evenly_spread(AttentionCall(pattern, 1.0, 0, offsets)) == expected
    with pytest.raises(ValueError, match=r"head offsets are \(0, 3\): allowed are equal or staggered ones"):
        evenly_spread(AttentionCall(pattern, 1.0, 0, (0, 3)))
