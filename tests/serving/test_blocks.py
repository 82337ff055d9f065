"""What of a pattern a serving engine is told, against the pattern itself."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.errors import ConfigError
from longgen.pattern import SparsePattern
from longgen.serving.blocks import blocks_held, blocks_in_sight, check_block_size, cut_queries, most_blocks_held

PATTERNS = st.builds(
    SparsePattern,
    block_size=st.sampled_from([2, 4, 8]),
    sink_blocks=st.integers(0, 3),
    local_blocks=st.integers(1, 4),
    stride=st.sampled_from([0, 2, 3, 5]),
)
BLOCK_SIZES = st.sampled_from([1, 2])  # of the engine: divisors of all the patterns'
REQUESTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=4)


@given(PATTERNS, BLOCK_SIZES, REQUESTS)
def test_a_piece_sees_what_the_pattern_allows_and_nothing_else(pattern, block_size, requests):
    new = np.array([count for _, count in requests])
    lengths = np.array([seen + count for seen, count in requests])
    pieces = cut_queries(pattern, block_size, np.concatenate([[0], np.cumsum(new)]), lengths)
    queries = [(row, seen + place) for row, (seen, count) in enumerate(requests) for place in range(count)]
    assert pieces.query_starts[-1] == len(queries)
    for piece, row in enumerate(pieces.request):
        begin, end = pieces.query_starts[piece : piece + 2]
        length = int(pieces.lengths[piece])
        columns = pieces.blocks[piece, : -(-length // block_size)]
        keys = (columns[:, None] * block_size + np.arange(block_size)).ravel()[:length]
        assert begin < end and (columns * block_size < lengths[row]).all()
        for place, (request, position) in enumerate(queries[begin:end]):
            assert request == row
            seen = keys[: length - (end - begin) + place + 1]  # what a causal kernel lets it see
            allowed = np.flatnonzero(pattern.allowed(position, np.arange(lengths[row])))
            np.testing.assert_array_equal(seen, allowed)


@given(PATTERNS, BLOCK_SIZES, st.integers(0, 80), st.integers(1, 30))
def test_blocks_in_sight_are_those_that_are_kept(pattern, block_size, seen, new):
    stay = np.flatnonzero(blocks_in_sight(pattern, block_size, seen))
    kept = np.unique(pattern.kept_positions(seen) // block_size)
    np.testing.assert_array_equal(np.setdiff1d(stay, [seen // block_size]), np.setdiff1d(kept, [seen // block_size]))
    held = np.union1d(kept, np.arange(seen, seen + new) // block_size)
    assert blocks_held(pattern, block_size, seen, new) == len(held)


@given(PATTERNS, BLOCK_SIZES, st.integers(1, 80), st.integers(1, 30))
def test_no_request_holds_more_than_the_bound(pattern, block_size, length, in_flight):
    most = most_blocks_held(pattern, block_size, length, in_flight)
    held = [blocks_held(pattern, block_size, seen, min(in_flight, length - seen)) for seen in range(length)]
    assert max(held) <= most <= max(held) + pattern.block_size


def test_the_bound_is_a_small_part_of_a_long_sequence():
    pattern = SparsePattern(block_size=64, sink_blocks=1, local_blocks=16)
    assert most_blocks_held(pattern, 64, 131072, 2048) == 17 + 2048 // 64
    assert most_blocks_held(pattern, 32, 1000, 2048) == 32


@pytest.mark.parametrize("block_size", [128, 48, 0])
def test_a_block_size_that_does_not_divide_is_refused_with_both_names(block_size):
    message = (
        rf"block size is {block_size}, the pattern's is 64: allowed is a divisor of the pattern's, such as 16, 32, 64"
    )
    with pytest.raises(ConfigError, match=message):
        check_block_size(SparsePattern(block_size=64), block_size)


def test_the_plugin_imports_nothing_of_vllm_before_it_is_called():
    code = (
        "import sys, longgen.serving.vllm, longgen.serving.blocks; "
        "print(sorted(sys.modules.keys() & {'vllm', 'torch', 'transformers'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
