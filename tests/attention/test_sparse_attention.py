"""Sparse attention by every backend against the dense float64 reference, on random patterns and odd shapes."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

from longgen.attention import PackedDocuments, sparse_attention
from longgen.attention.blocked_plan import plan_chunks
from longgen.attention.flex import block_mask
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


@settings(max_examples=60)
@given(cases)
def test_pruned_cache_gives_the_same_as_all_keys(case):
    query, key, value = tensors(case)
    past = case.pattern.kept_positions(case.offset, case.head_offset)
    kept = np.append(past, np.arange(case.offset, case.offset + case.q_len))
    pruned = sparse_attention(query, key[:, :, kept], value[:, :, kept], case.pattern, case.offset, case.head_offset)
    torch.testing.assert_close(pruned, dense(query, key, value, case), rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
@given(cases)
def test_reference_backend_agrees(case):
    query, key, value = tensors(case)
    reference = sparse_attention(query, key, value, case.pattern, case.offset, case.head_offset, backend="reference")
    torch.testing.assert_close(reference, dense(query, key, value, case), rtol=1e-10, atol=1e-10)


def test_training_can_follow_evaluation_at_the_same_length():
    pattern = SparsePattern(4, 1, 2)
    plan_chunks.cache_clear()
    query, key, value = (torch.randn(1, 2, 50, 8) for _ in range(3))
    with torch.inference_mode():
        sparse_attention(query, key, value, pattern)
    sparse_attention(query.requires_grad_(), key, value, pattern).sum().backward()
    assert query.grad is not None


BACKEND_NAMES = ["flex", "blocked", "reference"]  # triton: tests/kernels


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKEND_NAMES)
@settings(max_examples=20)
@given(case=cases, seed=st.integers(0, 2**16))
def test_every_head_may_have_an_offset_of_its_own(backend, case, seed):
    query, key, value = (tensor.float() for tensor in tensors(case))
    offsets = np.random.default_rng(seed).integers(0, 5, case.kv_heads).tolist()
    with torch.no_grad():
        actual = sparse_attention(query, key, value, case.pattern, case.offset, offsets, backend=backend)
    for head, offset in enumerate(offsets):
        own = slice(head * case.groups, (head + 1) * case.groups)
        alone = dataclasses.replace(case, head_offset=offset)
        expected = dense(query[:, own], key[:, head : head + 1], value[:, head : head + 1], alone)
        torch.testing.assert_close(actual[:, own], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("lengths", [[50], [1, 30, 19], [25, 25]])
def test_packed_documents_are_as_if_alone(backend, lengths):
    pattern = SparsePattern(4, 1, 2, 3)
    query, (key, value) = torch.randn(1, 4, 50, 8), torch.randn(2, 1, 2, 50, 8)
    packed = PackedDocuments.of_lengths(lengths)
    with torch.no_grad():
        actual = sparse_attention(query, key, value, pattern, head_offset=[0, 1], packed=packed, backend=backend)
        for part in packed.slices():
            alone = [tensor[:, :, part] for tensor in (query, key, value)]
            expected = sparse_attention(*alone, pattern, head_offset=[0, 1], backend="reference")
            torch.testing.assert_close(actual[:, :, part], expected)


def test_gradients_stay_within_documents():
    pattern, packed = SparsePattern(4, 1, 2), PackedDocuments.of_lengths([20, 30])
    query, key, value = (torch.randn(1, 2, 50, 8, requires_grad=True) for _ in range(3))
    sparse_attention(query, key, value, pattern, packed=packed)[:, :, 20:].sum().backward()
    for tensor in (query, key, value):
        assert not tensor.grad[:, :, :20].any()
    assert value.grad[:, :, 20:].any(-1).all()


@pytest.mark.parametrize(
    "pattern", [SparsePattern(16, 1, 2, 3), SparsePattern(64, 0, 1, 2), SparsePattern(24, 2, 3, 2)]
)
@pytest.mark.parametrize(("offset", "q_len"), [(0, 500), (128, 300), (100, 77)])
def test_the_block_mask_of_flex_attention_is_the_one_made_from_all_tokens(pattern, offset, q_len):
    made = block_mask(pattern, 1, offset, q_len, 64, "cpu")

    def allowed(batch, head, query, key):
        return pattern.allowed(query + offset, key, 1)

    wanted = create_block_mask(allowed, None, None, q_len, offset + q_len, device="cpu", BLOCK_SIZE=64)
    assert torch.equal(made.to_dense(), wanted.to_dense())
    for row, count in enumerate(made.full_kv_num_blocks[0, 0, : q_len // 64].tolist()):  # but for a row that is ragged
        assert count == wanted.full_kv_num_blocks[0, 0, row]
        assert torch.equal(made.full_kv_indices[0, 0, row, :count], wanted.full_kv_indices[0, 0, row, :count])


def test_what_does_not_fit_is_refused():
    query, key = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 30, 8)
    pattern = SparsePattern(4, 1, 2)
    with pytest.raises(ValueError, match=r"backend is 'warp': allowed are auto, triton, flex, blocked, reference"):
        sparse_attention(query, key, key, pattern, 27, backend="warp")
    with pytest.raises(ValueError, match=r"kv_len is 30: at query_offset 20 .* allowed are 23"):
        sparse_attention(query, key, key, pattern, 20)
    with pytest.raises(ValueError, match="multiple of KV heads"):
        sparse_attention(query[:, :3], key, key, pattern, 27)


def test_a_backend_that_cannot_serve_says_so():
    query, key = torch.randn(1, 4, 30, 8), torch.randn(1, 2, 30, 8)
    pattern = SparsePattern(16, 1, 1)
    with pytest.raises(ValueError, match=r"triton attention: (device is cpu: allowed is cuda|triton is not installed)"):
        sparse_attention(query, key, key, pattern, backend="triton")
    assert pattern.kept_count(68) == 20
    with pytest.raises(ValueError, match="flex attention: the cache is pruned: allowed are all keys from position 0"):
        sparse_attention(query[:, :, :1], key[:, :, :21], key[:, :, :21], pattern, 68, backend="flex")
    with pytest.raises(ValueError, match="flex attention: device is cpu and gradients are wanted"):
        sparse_attention(query.requires_grad_(), key, key, pattern, backend="flex")
    auto = sparse_attention(query, key, key, pattern)
    assert torch.equal(auto, sparse_attention(query, key, key, pattern, backend="blocked"))


def test_head_offsets_and_documents_that_do_not_fit_are_refused():
    query, key = torch.randn(2, 4, 30, 8), torch.randn(2, 2, 30, 8)
    pattern = SparsePattern(4, 1, 2, 3)
    with pytest.raises(ValueError, match="head_offset has 3 entries: allowed are 2, one per KV head"):
        sparse_attention(query, key, key, pattern, head_offset=[0, 1, 2])
    with pytest.raises(ValueError, match="batch is 2 and query_offset 0: allowed are 1 and 0"):
        sparse_attention(query, key, key, pattern, packed=PackedDocuments.of_lengths([10, 20]))
    for lengths in ([], [3, 0]):
        with pytest.raises(ValueError, match=r"lengths of packed documents are .* allowed are one or more, each >= 1"):
            PackedDocuments.of_lengths(lengths)
