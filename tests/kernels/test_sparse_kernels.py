"""Forward and backward kernels against the dense float64 reference, in Triton's interpreter."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from triton.runtime.interpreter import InterpreterBuilder

from longgen.attention import PackedDocuments, decode_attention, full_attention, sparse_attention
from longgen.attention import triton_attention as launcher
from longgen.attention.call import AttentionCall
from longgen.attention.tiles import tiles_for
from longgen.attention.triton_attention import triton_attention
from longgen.modeling import LongGenCache
from longgen.pattern import SparsePattern
from tests.kernels.cases import Case, cases, dense, inputs
from tests.kernels.interpreter import checked_memory
from tests.modeling.models import tiny_hybrid, tokens

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking would take minutes in the interpreter
BASE = Case(SparsePattern(32, 1, 2, 3), 0, 150, 1, 2, 2, 64, 0, False, 1)


def run(case: Case, *tensors: torch.Tensor, packed=None, **options) -> tuple[torch.Tensor, torch.Tensor]:
    with checked_memory(*tensors, *([] if packed is None else [packed.cu_seqlens])):
        return triton_attention(*tensors, case.call(packed=packed, **options))


def check_gradients(case: Case, tensors: list[torch.Tensor], tolerance: float, documents=None, packed=None) -> None:
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected, _ = dense(*exact, case, documents)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(case.seed))
    wanted = torch.autograd.grad(expected, exact, direction.double())
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    direction = direction.to(tensors[0].dtype)
    with checked_memory(*tensors, direction, *([] if packed is None else [packed.cu_seqlens])):
        output, _ = triton_attention(*tensors, case.call(packed=packed))
        gradients = torch.autograd.grad(output, tensors, direction)
    for name, got, want in zip(("query", "key", "value"), gradients, wanted, strict=True):
        assert got.dtype == tensors[0].dtype
        error = (got.double() - want).abs().max() / want.abs().max().clamp(min=1)
        assert error < tolerance, f"gradient of {name}: {error}"


@settings(max_examples=25, phases=UNSHRUNK)
@given(cases)
def test_forward(case):
    tensors = inputs(case)
    output, lse = run(case, *tensors)
    expected, expected_lse = dense(*tensors, case)
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-4, atol=1e-4)


@settings(max_examples=12, phases=UNSHRUNK)
@given(cases.map(lambda case: dataclasses.replace(case, staggered=False, offset=max(case.offset, 20))))
def test_forward_over_a_pruned_cache(case):
    query, key, value = inputs(case)
    past = case.pattern.kept_positions(case.offset, case.head_offset)
    kept = np.append(past, np.arange(case.offset, case.offset + case.q_len))
    pruned = (query, key[:, :, kept].contiguous(), value[:, :, kept].contiguous())
    output, _ = run(case, *pruned, pruned=True)
    torch.testing.assert_close(output.double(), dense(query, key, value, case)[0], rtol=1e-4, atol=1e-4)


@settings(max_examples=8, phases=UNSHRUNK)
@given(cases)
def test_gradients(case):
    check_gradients(case, inputs(case), 1e-4)


def test_under_autocast_the_kernels_get_cast_inputs():
    query, key, value = (tensor.requires_grad_() for tensor in inputs(BASE))
    low = [tensor.detach().to(torch.bfloat16).requires_grad_() for tensor in (query, key, value)]
    mixed = (query, key, low[2])
    direction = torch.randn(query.shape).to(torch.bfloat16)
    for attend in (
        lambda *tensors: sparse_attention(*tensors, BASE.pattern, backend="triton"),
        lambda *tensors: full_attention(*tensors, kernel="triton"),
    ):
        expected = attend(*low)
        wanted = torch.autograd.grad(expected, low, direction)
        with torch.autocast("cpu", torch.bfloat16):
            output = attend(*mixed)
            gradients = torch.autograd.grad(output, mixed, direction)
        assert torch.equal(output, expected)
        assert all(torch.equal(got.to(torch.bfloat16), want) for got, want in zip(gradients, wanted, strict=True))
    one = query[:, :, -1:]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        decoded = decode_attention(one, key, value, backend="triton")
    assert torch.equal(decoded, decode_attention(one.to(torch.bfloat16), *low[1:], backend="triton"))
    with pytest.raises(ValueError, match="dtypes differ"):
        triton_attention(*mixed, BASE.call())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
@pytest.mark.parametrize("head_dim", [64, 96, 128])
def test_half_precision(dtype, tolerance, head_dim):
    case = dataclasses.replace(BASE, head_dim=head_dim)
    tensors = inputs(case, dtype, spread=1.0)
    output, _ = run(case, *tensors)
    expected, _ = dense(*tensors, case)
    assert output.dtype == dtype
    # about what rounding the softmax weights and the result to this dtype costs
    assert (output.double() - expected).abs().max() < 4 * torch.finfo(dtype).eps * expected.abs().max()
    check_gradients(case, tensors, tolerance)


@pytest.mark.parametrize("head_dim", [96, 128, 256])
def test_wide_heads(head_dim):
    case = dataclasses.replace(BASE, head_dim=head_dim, q_len=70)
    check_gradients(case, inputs(case), 1e-4)


def test_large_scores_do_not_overflow():
    tensors = inputs(BASE, spread=60.0)
    output, lse = run(BASE, *tensors)
    expected, expected_lse = dense(*tensors, BASE)
    assert expected_lse.abs().max() > 5e3
    torch.testing.assert_close(output.double(), expected, rtol=1e-3, atol=5e-2)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-4, atol=1e-2)


LENGTHS = [[150], [64, 64, 22], [1, 2, 100, 47], [33, 1, 1, 115]]


@pytest.mark.parametrize(("lengths", "staggered"), [(each, i % 2 == 0) for i, each in enumerate(LENGTHS)], ids=str)
def test_packed_documents_do_not_see_each_other(lengths, staggered):
    case = dataclasses.replace(BASE, staggered=staggered)
    packed = PackedDocuments.of_lengths(lengths)
    documents = np.repeat(np.arange(len(lengths)), lengths)
    tensors = inputs(case)
    output, lse = run(case, *tensors, packed=packed)
    expected, expected_lse = dense(*tensors, case, documents)
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-4, atol=1e-4)
    check_gradients(case, tensors, 1e-4, documents, packed=packed)


def test_offsets_beyond_two_to_the_31_elements():
    # a row so far into its storage that a 32-bit offset would wrap around; nothing but the row itself is ever touched
    stride = 2**31 // 3
    storage = torch.empty(3 * stride + 2**20, dtype=torch.float16)
    case = dataclasses.replace(BASE, q_len=40, kv_heads=4, group=1)
    small = inputs(case, torch.float16, spread=1.0)
    far = [storage.as_strided((1, 4, 40, 64), (0, stride, 64, 1), index * 4096) for index in range(3)]
    for tensor, source in zip(far, small, strict=True):
        tensor.copy_(source)
    output, _ = triton_attention(*far, case.call())
    expected, _ = dense(*small, case)
    assert (output.double() - expected).abs().max() < 1e-2


def test_the_long_columns_are_split_and_summed_alike_every_time(monkeypatch):
    case = dataclasses.replace(BASE, q_len=400, kv_heads=1, group=1, head_dim=16)
    tensors = inputs(case)
    results = []
    for programs in (1, 40, 40):
        monkeypatch.setattr(launcher, "FAR_PROGRAMS", programs)
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        output, _ = triton_attention(*leaves, case.call())
        output.sum().backward()
        results.append([leaf.grad for leaf in leaves])
    for one, split, again in zip(*results, strict=True):
        torch.testing.assert_close(one, split, rtol=1e-4, atol=1e-4)
        assert torch.equal(split, again)


@pytest.mark.parametrize("pattern", [SparsePattern(32, 1, 2, 3), SparsePattern(16, 2, 3), SparsePattern(64, 0, 1, 2)])
def test_a_tile_of_queries_reads_only_what_some_query_of_it_sees(pattern, monkeypatch):
    case = dataclasses.replace(BASE, pattern=pattern, q_len=300, kv_heads=1, group=1, head_dim=16)
    query, key, value = inputs(case)
    read: set[int] = set()
    plain = InterpreterBuilder.create_masked_load

    def load(self, pointer, mask, *rest):
        addresses = pointer.data if mask is None else pointer.data[mask.data.astype(bool)]
        read.update(addresses.ravel().tolist())
        return plain(self, pointer, mask, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", load)
    tile = tiles_for(0, 4, 16).forward.queries
    blocks = -(-case.q_len // pattern.block_size)
    for first in range(0, case.q_len, tile):
        # one tile alone, as the last chunk of a prompt
        last = min(first + tile, case.q_len)
        read.clear()
        call = AttentionCall(pattern, case.scale, first, (0,))
        triton_attention(query[:, :, first:last], key[:, :, :last], value[:, :, :last], call)
        rows = range(first // pattern.block_size, (last - 1) // pattern.block_size + 1)
        seen = {int(block) for row in rows for block in pattern.visible_blocks(row)}
        touched = set()
        for block in range(blocks):
            tokens = range(block * pattern.block_size, min((block + 1) * pattern.block_size, last))
            if any(key[0, 0, token].data_ptr() in read for token in tokens):
                touched.add(block)
        assert touched == seen


def test_a_hybrid_computes_the_same_with_the_kernels():
    hybrid = tiny_hybrid(layout="heads:1/3", pattern=SparsePattern(16, 1, 2, 3, staggered=True))
    kernels = tiny_hybrid(layout="heads:1/3", pattern=SparsePattern(16, 1, 2, 3, staggered=True))
    hybrid.set_attn_implementation("longgen_blocked")
    kernels.set_attn_implementation("longgen_triton")
    x = tokens(100, batch=1)
    for model in (hybrid, kernels):
        model.train()(x, labels=x).loss.backward()
    for (name, wanted), got in zip(hybrid.named_parameters(), kernels.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-3, atol=1e-5, msg=name)
    with torch.no_grad():
        caches = [LongGenCache(model.eval().config) for model in (hybrid, kernels)]
        for part in x.split([50, 1, 49], dim=1):
            wanted, got = (
                model(part, past_key_values=cache).logits
                for model, cache in zip((hybrid, kernels), caches, strict=True)
            )
            torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def test_what_the_kernels_cannot_serve_is_refused():
    query, key, value = inputs(BASE)
    for change, message in (
        (
            (query.double(), key.double(), value.double()),
            "dtypes are torch.float64 and torch.float64: allowed is one of",
        ),
        ((query, key.half(), value), "dtypes differ: query torch.float32, key torch.float16"),
        ((query.mT, key, value), "last dimension is not contiguous"),
        ([torch.randn(1, 2, 8, 300)] * 3, "head_dim is 300: allowed is at most 256"),
    ):
        with pytest.raises(ValueError, match=message):
            triton_attention(*change, BASE.call())
    with pytest.raises(ValueError, match="block_size is 24: allowed is a multiple of 16"):
        triton_attention(query, key, value, dataclasses.replace(BASE, pattern=SparsePattern(24, 1, 2)).call())
    with pytest.raises(ValueError, match=r"the softmax scale is -0.5: allowed is a positive number"):
        triton_attention(query, key, value, dataclasses.replace(BASE.call(), scale=-0.5))
    with pytest.raises(ValueError, match=r"head offsets are \(0, 5\): allowed are equal or staggered ones"):
        triton_attention(query, key, value, dataclasses.replace(BASE.call(), head_offsets=(0, 5)))
