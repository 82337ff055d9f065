"""Full attention and decoding: every kernel that can be asked for, what "auto" takes, and what is refused."""

import sys
import types

import pytest
import torch

from longgen.attention import FULL_KERNELS, PackedDocuments, decode_attention, full_attention
from longgen.attention.full import choose_full_kernel
from longgen.attention.sdpa import scaled_dot_product


def expected(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    q_len, kv_len, group = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(group, 1).transpose(-1, -2) * scale
    future = torch.ones(q_len, kv_len).triu(kv_len - q_len + 1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ value.repeat_interleave(group, 1)


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 9), (9, 9), (4, 9), (300, 700)])
@pytest.mark.parametrize("kernel", ["auto", "sdpa"])
def test_the_queries_are_the_last_and_see_no_later_key(q_len, kv_len, kernel):
    query, (key, value) = torch.randn(1, 4, q_len, 8).double(), torch.randn(2, 1, 2, kv_len, 8).double()
    actual = full_attention(query, key, value, 0.3, kernel=kernel)
    torch.testing.assert_close(actual, expected(query, key, value, 0.3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("past", [1, 63, 700])
def test_a_chunk_after_the_past_is_as_exact_as_with_a_mask(dtype, past):
    query, (key, value) = torch.randn(2, 6, 130, 32).to(dtype), torch.randn(2, 2, 2, 130 + past, 32).to(dtype)
    truth = expected(query.double(), key.double(), value.double(), 0.3)
    seen = torch.ones(130, 130 + past, dtype=torch.bool).tril(past)
    masked = scaled_dot_product(query, key, value, 0.3, seen)
    actual = full_attention(query, key, value, 0.3)
    assert actual.dtype == dtype
    assert (actual.double() - truth).norm() <= 1.5 * (masked.double() - truth).norm()


def test_a_chunk_after_the_past_has_gradients():
    query, (key, value) = torch.randn(1, 4, 5, 8).double(), torch.randn(2, 1, 2, 9, 8).double()
    inputs = [states.clone().requires_grad_() for states in (query, key, value)]
    grads = torch.autograd.grad(full_attention(*inputs, 0.3).square().sum(), inputs)
    wanted = torch.autograd.grad(expected(*inputs, 0.3).square().sum(), inputs)
    for grad, want in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, want)


def test_packed_documents_are_as_if_alone():
    query, (key, value) = torch.randn(1, 4, 50, 8).double(), torch.randn(2, 1, 2, 50, 8).double()
    packed = PackedDocuments.of_lengths([1, 30, 19])
    actual = full_attention(query, key, value, 0.3, packed)
    for part in packed.slices():
        alone = expected(query[:, :, part], key[:, :, part], value[:, :, part], 0.3)
        torch.testing.assert_close(actual[:, :, part], alone)


def flash_attn_func(query, key, value, softmax_scale, causal):
    """What flash-attn documents: [batch, tokens, heads, head_dim], grouped heads, queries the last of the keys."""
    assert causal
    by_head = [states.transpose(1, 2) for states in (query, key, value)]
    return expected(*by_head, softmax_scale).transpose(1, 2)


def flash_attn_varlen_func(query, key, value, starts, key_starts, longest, key_longest, softmax_scale, causal):
    """As documented: [tokens, heads, head_dim] of all documents one after another."""
    assert starts is key_starts
    assert starts.dtype == torch.int32
    assert longest == key_longest == int(starts.diff().max())
    bounds = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    parts = [[states[None, start:end] for states in (query, key, value)] for start, end in bounds]
    return torch.cat([flash_attn_func(*part, softmax_scale, causal)[0] for part in parts])


@pytest.mark.parametrize("packed", [None, PackedDocuments.of_lengths([5, 15])])
def test_flash_attn_gets_the_layout_that_it_documents(monkeypatch, packed):
    module = types.ModuleType("flash_attn")
    module.flash_attn_func, module.flash_attn_varlen_func = flash_attn_func, flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    query, (key, value) = torch.randn(1, 4, 20, 8), torch.randn(2, 1, 2, 20, 8)
    actual = FULL_KERNELS["flash-attn"].attend(query, key, value, 0.3, packed)
    torch.testing.assert_close(actual, full_attention(query, key, value, 0.3, packed))


@pytest.mark.parametrize("kernel", [name for name in FULL_KERNELS if name != "sdpa"])
def test_a_kernel_that_cannot_serve_says_so(kernel):
    query = torch.randn(1, 2, 20, 8)
    with pytest.raises(ValueError, match=f"full attention by {kernel}: .*(cuda|allowed|does not take it)"):
        full_attention(query, query, query, kernel=kernel)
    assert choose_full_kernel(query, query) == "sdpa"


def test_an_unknown_kernel_is_refused():
    query = torch.randn(1, 2, 20, 8)
    with pytest.raises(ValueError, match=r"full attention kernel is 'fast': allowed are auto, flash-attn, sdpa-flash"):
        full_attention(query, query, query, kernel="fast")
    with pytest.raises(ValueError, match=r"backend is 'flex': allowed to decode are auto, triton, sdpa"):
        decode_attention(query[:, :, :1], query, query, backend="flex")


@pytest.mark.parametrize("limits", ["none", "lengths", "mask", "both"])
def test_decoding_counts_only_the_keys_it_is_told(limits):
    query, (key, value) = torch.randn(3, 4, 1, 8).double(), torch.randn(2, 3, 2, 40, 8).double()
    lengths = torch.tensor([1, 17, 40]) if limits in ("lengths", "both") else None
    mask = (torch.rand(3, 40) < 0.5).index_fill(1, torch.tensor(0), True) if limits in ("mask", "both") else None
    actual = decode_attention(query, key, value, 0.3, lengths, mask)
    for row in range(3):
        keep = torch.arange(40 if lengths is None else lengths[row])
        if mask is not None:
            keep = keep[mask[row, keep]]
        alone = [tensor[row : row + 1] for tensor in (query, key[:, :, keep], value[:, :, keep])]
        torch.testing.assert_close(actual[row : row + 1], expected(*alone, 0.3))
