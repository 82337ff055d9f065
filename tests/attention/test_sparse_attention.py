"""The blocked path against the dense float64 reference, on random patterns and odd shapes; forward and gradients."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longgen.attention import full_attention, sparse_attention
from longgen.attention.blocked import plan_chunks
from longgen.pattern import SparsePattern

patterns = st.builds(
    SparsePattern,
    block_size=st.integers(1, 9),
    sink_blocks=st.integers(0, 3),
    local_blocks=st.integers(1, 5),
    stride=st.sampled_from([0, 2, 3, 5, 8]),
)


@dataclasses.dataclass(frozen=True)
class Case:
    pattern: SparsePattern
    offset: int
    head_offset: int
    q_len: int
    batch: int
    kv_heads: int
    groups: int
    head_dim: int
    seed: int


cases = st.builds(
    Case,
    pattern=patterns,
    offset=st.integers(0, 70),
    head_offset=st.integers(0, 4),
    q_len=st.integers(1, 60),
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 2),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 2**16),
)


def tensors(case: Case) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(case.seed)
    heads, kv_len = case.kv_heads * case.groups, case.offset + case.q_len
    shapes = [(case.batch, heads, case.q_len, case.head_dim)] + [(case.batch, case.kv_heads, kv_len, case.head_dim)] * 2
    # large values too: the softmax must not overflow
    return [torch.randn(s, generator=generator, dtype=torch.float64) * 3 for s in shapes]


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, case: Case) -> torch.Tensor:
    """Written anew here, from the rule: nothing of the package but the pattern's `visible`."""
    size = case.pattern.block_size
    rows = np.arange(case.offset, case.offset + case.q_len)[:, None]
    columns = np.arange(key.shape[2])[None, :]
    mask = torch.from_numpy(case.pattern.visible(rows // size, columns // size, case.head_offset) & (columns <= rows))
    key, value = (t.repeat_interleave(case.groups, dim=1) for t in (key, value))
    scores = query @ key.transpose(-1, -2) * case.head_dim**-0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value


@settings(max_examples=150, deadline=None)
@given(cases)
def test_blocked_forward_and_gradients_equal_the_dense_reference(case):
    query, key, value = (t.requires_grad_() for t in tensors(case))
    expected = dense(query, key, value, case)
    direction = torch.randn(expected.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, (query, key, value), direction)
    actual = sparse_attention(query, key, value, case.pattern, case.offset, case.head_offset)
    gradients = torch.autograd.grad(actual, (query, key, value), direction)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    for name, got, want in zip(("query", "key", "value"), gradients, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@settings(max_examples=60, deadline=None)
@given(cases)
def test_pruned_cache_gives_the_same_as_all_keys(case):
    query, key, value = tensors(case)
    past = case.pattern.kept_positions(case.offset, case.head_offset)
    kept = np.append(past, np.arange(case.offset, case.offset + case.q_len))
    pruned = sparse_attention(query, key[:, :, kept], value[:, :, kept], case.pattern, case.offset, case.head_offset)
    torch.testing.assert_close(pruned, dense(query, key, value, case), rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_reference_backend_agrees(case):
    query, key, value = tensors(case)
    reference = sparse_attention(query, key, value, case.pattern, case.offset, case.head_offset, backend="reference")
    torch.testing.assert_close(reference, dense(query, key, value, case), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [SparsePattern(16, 1, 4), SparsePattern(16, 1, 4, 8)])
def test_error_in_low_precision_is_no_larger_than_that_of_the_dense_path(dtype, pattern):
    case = Case(pattern, 0, 0, 333, 1, 2, 2, 32, 7)
    query, key, value = tensors(case)
    truth = dense(query, key, value, case)
    low = [t.to(dtype) for t in (query, key, value)]
    error = (sparse_attention(*low, pattern).double() - truth).norm()
    dense_error = (sparse_attention(*low, pattern, backend="reference").double() - truth).norm()
    assert error <= 1.2 * dense_error


def test_training_can_follow_evaluation_at_the_same_length():
    pattern = SparsePattern(4, 1, 2)
    plan_chunks.cache_clear()
    query, key, value = (torch.randn(1, 2, 50, 8) for _ in range(3))
    with torch.inference_mode():
        sparse_attention(query, key, value, pattern)
    sparse_attention(query.requires_grad_(), key, value, pattern).sum().backward()
    assert query.grad is not None


def test_no_chunk_gathers_more_than_window_and_far_blocks():
    # memory O(length x window): what a chunk gathers does not grow with its position, but for strided blocks
    pattern = SparsePattern(16, 1, 8)
    chunks = plan_chunks(pattern, 0, 0, 16 * 400, False, "cpu")
    width = 16 * (8 // 2)
    assert max(len(chunk.columns) for chunk in chunks) <= 16 * (1 + 8 - 1) + width
    masks = {id(chunk.mask) for chunk in chunks}
    assert len(masks) < 8, "chunks in the steady state share one mask"


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 9), (9, 9), (4, 9), (300, 700)])
def test_full_attention_is_causal_for_the_last_queries(q_len, kv_len):
    query, key, value = (torch.randn(1, 4, n, 8, dtype=torch.float64) for n in (q_len, kv_len, kv_len))
    key, value = key[:, :2], value[:, :2]
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) * 8**-0.5
    future = torch.ones(q_len, kv_len).triu(kv_len - q_len + 1).bool()
    expected = scores.masked_fill(future, -torch.inf).softmax(-1) @ value.repeat_interleave(2, 1)
    torch.testing.assert_close(full_attention(query, key, value), expected)


def test_what_does_not_fit_is_refused():
    query, key = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 30, 8)
    pattern = SparsePattern(4, 1, 2)
    with pytest.raises(ValueError, match=r"backend is 'warp': allowed are auto, triton, blocked, reference"):
        sparse_attention(query, key, key, pattern, 27, backend="warp")
    with pytest.raises(ValueError, match=r"kv_len is 30: at query_offset 20 .* allowed are 23"):
        sparse_attention(query, key, key, pattern, 20)
    with pytest.raises(ValueError, match="multiple of KV heads"):
        sparse_attention(query[:, :3], key, key, pattern, 27)


def test_a_backend_that_cannot_serve_says_so():
    query, key = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8)
    with pytest.raises(ValueError, match=r"triton attention: (device is cpu: allowed is cuda|triton is not installed)"):
        sparse_attention(query, key, key, SparsePattern(16, 1, 2), backend="triton")
    auto = sparse_attention(query, key, key, SparsePattern(16, 1, 2))
    assert torch.equal(auto, sparse_attention(query, key, key, SparsePattern(16, 1, 2), backend="blocked"))
