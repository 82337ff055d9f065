"""Mixed precision: attention does with queries, keys and values of different dtypes what PyTorch's attention does."""

import functools

import pytest
import torch
import torch.nn.functional as F

from longgen.attention import (
    BACKENDS,
    PackedDocuments,
    decode_attention,
    dispatch,
    full_attention,
    sparse_attention,
)
from longgen.attention.autocast import autocasted
from longgen.modeling.shifted import shifted_attention
from longgen.pattern import SparsePattern

PATTERN = SparsePattern(16, 1, 2, 3)
PACKED = PackedDocuments.of_lengths([30, 120])
HALF = torch.bfloat16
WHOLE = {
    "sdpa": full_attention,
    "sdpa packed": functools.partial(full_attention, packed=PACKED),
    "blocked": functools.partial(sparse_attention, pattern=PATTERN, head_offset=[0, 1]),
    "blocked packed": functools.partial(sparse_attention, pattern=PATTERN, packed=PACKED),
    "reference": functools.partial(sparse_attention, pattern=PATTERN, backend="reference"),
    "shifted": functools.partial(shifted_attention, groups=4, unshifted=1),
}
CHUNKS = {
    "sdpa chunk": full_attention,
    "blocked chunk": functools.partial(sparse_attention, pattern=PATTERN, query_offset=60),
    "flex": functools.partial(sparse_attention, pattern=PATTERN, query_offset=60, backend="flex"),
}
ONE = {
    "decode": decode_attention,
    "decode lengths": functools.partial(decode_attention, lengths=torch.tensor([50])),
    "pruned": functools.partial(sparse_attention, pattern=PATTERN, query_offset=200),
}
KEPT = PATTERN.kept_count(200)


def states(q_len: int, kv_len: int, *dtypes: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = [(1, 4, q_len, 16), (1, 2, kv_len, 16), (1, 2, kv_len, 16)]
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [one.to(dtype) for one, dtype in zip(made, dtypes, strict=True)]


def sized(name: str, *dtypes: torch.dtype) -> list[torch.Tensor]:
    if name in ONE:
        return states(1, KEPT + 1 if name == "pruned" else 150, *dtypes)
    return states(90 if name in CHUNKS else 150, 150, *dtypes)


ALL = WHOLE | CHUNKS | ONE
MIXED = (torch.float32, torch.float32, HALF)  # what RoPE makes under autocast


def test_pytorchs_attention_does_what_is_said_of_it():
    query, key, value = states(9, 9, *MIXED)
    with pytest.raises(RuntimeError, match="same dtype"):
        F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    with torch.autocast("cpu", HALF):
        assert F.scaled_dot_product_attention(query, key, value, enable_gqa=True).dtype == HALF
        double = [tensor.double() for tensor in (query, key, value)]
        assert F.scaled_dot_product_attention(*double, enable_gqa=True).dtype == torch.float64
        with pytest.raises(RuntimeError, match="same dtype"):
            F.scaled_dot_product_attention(query.double(), key, value, enable_gqa=True)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtypes", [MIXED, (torch.float32,) * 3, (HALF,) * 3], ids=["mixed", "float32", "bfloat16"])
def test_under_autocast_the_output_is_that_of_cast_inputs(name, dtypes):
    inputs = sized(name, *dtypes)
    with torch.no_grad():
        expected = ALL[name](*(tensor.to(HALF) for tensor in inputs))
        with torch.autocast("cpu", HALF):
            actual = ALL[name](*inputs)
    assert actual.dtype == HALF
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
@pytest.mark.parametrize("name", WHOLE)
def test_gradients_have_the_dtype_of_the_inputs_and_are_those_of_cast_inputs(name, inside):
    inputs = [tensor.requires_grad_() for tensor in sized(name, *MIXED)]
    low = [tensor.detach().to(HALF).requires_grad_() for tensor in inputs]
    direction = torch.randn(1, 4, 150, 16).to(HALF)
    wanted = torch.autograd.grad(WHOLE[name](*low), low, direction)
    with torch.autocast("cpu", HALF):
        output = WHOLE[name](*inputs)
        if inside:
            gradients = torch.autograd.grad(output, inputs, direction)
    if not inside:
        gradients = torch.autograd.grad(output, inputs, direction)
    assert [gradient.dtype for gradient in gradients] == list(MIXED)
    for got, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got.to(HALF), want, rtol=0, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_float64_is_left_alone_and_mixes_with_nothing(name):
    inputs = sized(name, *[torch.float64] * 3)
    with torch.no_grad():
        expected = ALL[name](*inputs)
        with torch.autocast("cpu", HALF):
            assert torch.equal(ALL[name](*inputs), expected)
            with pytest.raises(ValueError, match=r"query torch\.float64, key torch\.bfloat16, value torch\.bfloat16"):
                ALL[name](inputs[0], *sized(name, *MIXED)[1:])


@pytest.mark.parametrize("name", ALL)
def test_outside_of_autocast_dtypes_that_differ_are_refused(name):
    for dtypes in (MIXED, (HALF, torch.float32, torch.float32)):
        with pytest.raises(ValueError, match=r"dtypes differ: query .* allowed is one for all"):
            ALL[name](*sized(name, *dtypes))


def test_what_is_of_one_dtype_is_not_copied(monkeypatch):
    seen = []

    def spy(query, key, value, call):
        seen.extend([query, key, value])
        return query

    monkeypatch.setitem(dispatch.BACKENDS, "blocked", BACKENDS["blocked"]._replace(attend=spy))
    inputs = states(20, 20, HALF, HALF, HALF)
    sparse_attention(*inputs, PATTERN)
    with torch.autocast("cpu", HALF):
        sparse_attention(*inputs, PATTERN)
        assert all(got is given for got, given in zip(autocasted(*inputs), inputs, strict=True))
    assert all(got is given for got, given in zip(seen, inputs * 2, strict=True))


def test_a_device_without_autocast_is_no_obstacle():
    meta = torch.empty(1, 2, 3, 4, device="meta")
    assert autocasted(meta) == (meta,)
    assert full_attention(meta, meta, meta).shape == meta.shape
