"""The blocked path's plans hide exactly what the pattern hides; its gradients, turns of heads, layouts and memory."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longgen.attention import blocked
from longgen.attention.blocked import blocked_attention
from longgen.attention.blocked_plan import BFLOAT16_ROWS, MOST_ROWS, plan_chunks
from longgen.attention.call import AttentionCall
from longgen.attention.sdpa import repeat_kv_heads, scaled_dot_product
from longgen.pattern import SparsePattern

SINK, STRIDE = SparsePattern(64, 1, 16), SparsePattern(64, 1, 16, 16)

patterns = st.builds(
    SparsePattern,
    block_size=st.sampled_from([1, 3, 8, 16, 64, 150]),
    sink_blocks=st.integers(0, 3),
    local_blocks=st.integers(1, 20),
    stride=st.sampled_from([0, 2, 3, 8]),
)


@dataclasses.dataclass(frozen=True)
class Case:
    pattern: SparsePattern
    offset: int
    head_offset: int
    q_len: int
    evicted: bool
    batch: int
    kv_heads: int
    group_size: int
    scores: int
    seed: int
    most_rows: int = MOST_ROWS


cases = st.builds(
    Case,
    pattern=patterns,
    offset=st.integers(0, 500),
    head_offset=st.integers(0, 7),
    q_len=st.integers(1, 500),
    evicted=st.booleans(),
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    group_size=st.integers(1, 3),
    scores=st.sampled_from([1, 1 << 15, 1 << 17, 1 << 20]),  # from one head at a time to all
    seed=st.integers(0, 2**16),
    most_rows=st.sampled_from([MOST_ROWS, BFLOAT16_ROWS]),
)


def key_positions(case: Case) -> np.ndarray:
    past = case.pattern.kept_positions(case.offset, case.head_offset) if case.evicted else np.arange(case.offset)
    return np.append(past, np.arange(case.offset, case.offset + case.q_len))


def rule(case: Case) -> np.ndarray:
    """Who sees whom, [q_len, keys], from the pattern's `allowed` alone."""
    rows = np.arange(case.offset, case.offset + case.q_len)
    return case.pattern.allowed(rows[:, None], key_positions(case)[None, :], case.head_offset)


def tensors(case: Case, dtype: torch.dtype = torch.float64, head_dim: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(case.seed)
    kv_len = len(key_positions(case))
    shapes = [(case.q_len, case.kv_heads * case.group_size)] + [(kv_len, case.kv_heads)] * 2
    # tokens before heads, as a model's projections leave them
    by_token = [torch.randn(case.batch, *shape, head_dim, generator=generator, dtype=torch.float64) for shape in shapes]
    return [states.to(dtype).transpose(1, 2).requires_grad_() for states in by_token]


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, case: Case) -> torch.Tensor:
    key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores.masked_fill(~torch.from_numpy(rule(case)), -torch.inf).softmax(-1) @ value


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, case: Case) -> torch.Tensor:
    offsets = (case.head_offset,) * case.kv_heads
    call = AttentionCall(case.pattern, query.shape[-1] ** -0.5, case.offset, offsets, case.evicted)
    return blocked_attention(query, key, value, call)


@settings(max_examples=150)
@given(cases)
def test_a_plan_shows_each_query_the_keys_of_the_rule(case):
    arguments = (case.pattern, case.offset, case.head_offset, case.q_len, case.evicted, case.group_size)
    plan = plan_chunks.__wrapped__(*arguments, case.most_rows, "cpu")
    kv_len = len(key_positions(case))
    far = np.arange(kv_len)[plan.far]
    seen = np.zeros((case.q_len * case.group_size, kv_len), dtype=int)
    for chunk in plan.chunks:
        keys = np.append(np.arange(kv_len)[chunk.near], far[: chunk.far])
        shown = np.ones((chunk.rows.stop - chunk.rows.start, len(keys)), dtype=int)
        assert chunk.scores == shown.size
        for edge in chunk.edges:
            shown[:, edge.keys] *= ~edge.hidden.numpy().T
        np.add.at(seen, (np.arange(len(seen))[chunk.rows, None], keys[None, :]), shown)
    # counted: no key is there twice
    np.testing.assert_array_equal(seen, np.repeat(rule(case), case.group_size, axis=0).astype(int))


@settings(max_examples=80)
@given(cases)
def test_output_and_gradients_equal_the_dense_ones(case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "SCORES_ON_CPU", case.scores)
        inputs = tensors(case)
        expected, actual = dense(*inputs, case), attend(*inputs, case)
        direction = torch.randn(expected.shape, dtype=torch.float64)
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
        wanted = torch.autograd.grad(expected, inputs, direction)
        gradients = torch.autograd.grad(actual, inputs, direction)
    for name, got, want in zip(("query", "key", "value"), gradients, wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 2.5], ids=["scores-of-5", "scores-of-30"])
@pytest.mark.parametrize("pattern", [SparsePattern(16, 1, 4), SparsePattern(16, 1, 4, 8)], ids=str)
def test_output_and_gradients_in_low_precision_are_as_exact_as_those_of_pytorchs_attention(dtype, size, pattern):
    case = Case(pattern, 0, 0, 700, False, 2, 2, 2, 0, 3)
    low = [(size * states.detach()).to(dtype).requires_grad_() for states in tensors(case, head_dim=32)]
    exact = [states.detach().double().requires_grad_() for states in low]
    direction = torch.randn(exact[0].shape).to(dtype)

    def all_of(attend, inputs) -> list[torch.Tensor]:
        output = attend(*inputs)
        return [output, *torch.autograd.grad(output, inputs, direction.to(output.dtype))]

    mask = torch.from_numpy(rule(case))
    truth = all_of(lambda *inputs: dense(*inputs, case), exact)
    theirs = all_of(lambda *inputs: scaled_dot_product(*inputs, mask=mask), low)
    for ours, their, true in zip(all_of(lambda *inputs: attend(*inputs, case), low), theirs, truth, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - true).norm() <= 1.2 * (their.double() - true).norm()


def test_products_of_others_are_as_exact_as_before():
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    case = Case(SINK, 0, 0, 200, False, 1, 1, 1, 1, 0)
    low = tensors(case, torch.bfloat16)
    attend(*low, case).sum().backward()
    assert products.fp32_precision == before
    with pytest.raises(RuntimeError):
        torch.autograd.grad(attend(*low, case), low, torch.ones(3))
    assert products.fp32_precision == before


@pytest.mark.parametrize(("pattern", "most"), [(SINK, 200_000), (STRIDE, 400_000)], ids=["sink", "stride"])
def test_a_plan_of_32k_takes_little_memory_and_its_chunks_do_not_grow(pattern, most):
    plan = plan_chunks.__wrapped__(pattern, 0, 0, 32768, False, 1, MOST_ROWS, "cpu")
    masks = {id(edge.hidden): edge.hidden for chunk in plan.chunks for edge in chunk.edges}
    indices = 0 if isinstance(plan.far, slice) else plan.far.nbytes
    assert sum(mask.nbytes for mask in masks.values()) + indices < most
    for chunk in plan.chunks:
        assert chunk.rows.stop - chunk.rows.start == 128
        # the window of the chunk's first block, its second block, and perhaps a sink or strided block that adjoins
        assert chunk.near.stop - chunk.near.start <= 64 * (16 + 1 + 1)


def test_second_derivatives_are_refused():
    case = Case(SparsePattern(4, 1, 2), 0, 0, 20, False, 1, 1, 1, 0, 0)
    inputs = tensors(case)
    (gradient,) = torch.autograd.grad(attend(*inputs, case).square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
