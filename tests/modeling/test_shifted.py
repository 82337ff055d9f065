"""LongLoRA's shifted groups of tokens against a dense float64 mask; trained so, evaluated in full."""

import copy

import pytest
import torch
import torch.distributed as dist
from transformers import DynamicCache

from longgen.attention import PackedDocuments
from longgen.errors import ConfigError
from longgen.modeling import attention as attention_module
from longgen.modeling.packing import positions_in_documents
from longgen.modeling.shifted import attended_pairs, group_borders, shifted_attention, unshifted_heads
from longgen.training.parallel.ulysses import SequenceParallel
from tests.modeling.models import FAMILIES, tiny_hybrid, tokens
from tests.processes import ranks

DOCUMENTS = [13, 1, 34, 16]


def dense_mask(length: int, groups: int, shifted: bool, documents: list[int] | None = None) -> torch.Tensor:
    """Who sees whom, for a length that is a multiple of twice the groups: by definition rather than by borders."""
    size, position = length // groups, torch.arange(length)
    group = (position + size // 2) // size if shifted else position // size
    allowed = (group[:, None] == group) & (position[:, None] >= position)
    if documents is not None:
        document = torch.repeat_interleave(torch.tensor(documents))
        allowed &= document[:, None] == document
    return allowed


def dense(query, key, value, groups, unshifted, scale=None, packed=None, kernel="auto"):
    """In place of `shifted_attention`."""
    members = query.shape[1] // key.shape[1]
    documents = None if packed is None else packed.cu_seqlens.diff().tolist()
    masks = [
        dense_mask(query.shape[2], groups, head >= unshifted, documents)
        for head in range(key.shape[1])
        for _ in range(members)
    ]
    key, value = key.repeat_interleave(members, 1), value.repeat_interleave(members, 1)
    scores = query @ key.transpose(-1, -2) * scale
    return scores.masked_fill(~torch.stack(masks), -torch.inf).softmax(-1) @ value


@pytest.mark.parametrize("documents", [None, DOCUMENTS], ids=["whole", "packed"])
@pytest.mark.parametrize(("rows", "heads", "kv_heads", "unshifted"), [(2, 4, 4, 2), (1, 8, 2, 1), (3, 6, 3, 1)])
@pytest.mark.parametrize("groups", [4, 2])
def test_forward_and_gradients_equal_the_dense_mask(rows, heads, kv_heads, unshifted, groups, documents):
    rows, packed = (rows, None) if documents is None else (1, PackedDocuments.of_lengths(documents))
    query = torch.randn(rows, heads, 64, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(rows, kv_heads, 64, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    actual = shifted_attention(query, key, value, groups, unshifted, 0.3, packed)
    expected = dense(query, key, value, groups, unshifted, 0.3, packed)
    torch.testing.assert_close(actual, expected)
    upstream = torch.randn_like(actual)
    for got, want in zip(
        torch.autograd.grad(actual, (query, key, value), upstream),
        torch.autograd.grad(expected, (query, key, value), upstream),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


def test_a_process_may_hold_heads_of_one_half_only():
    query, key, value = torch.randn(3, 1, 2, 32, 8, dtype=torch.float64)
    for unshifted in (0, 2):
        actual = shifted_attention(query, key, value, 4, unshifted)
        torch.testing.assert_close(actual, dense(query, key, value, 4, unshifted, 8**-0.5))
    # two KV heads on four processes, six on three
    assert [unshifted_heads(range(head, head + 1), 2) for head in (0, 0, 1, 1)] == [1, 1, 0, 0]
    assert [unshifted_heads(range(first, first + 2), 6) for first in (0, 2, 4)] == [2, 1, 0]
    assert [unshifted_heads(range(heads), heads) for heads in (2, 3, 8)] == [1, 1, 4]


def test_groups_of_any_length_differ_by_a_token_at_most():
    assert group_borders(16, 4, False) == [0, 4, 8, 12, 16]
    assert group_borders(16, 4, True) == [0, 2, 6, 10, 14, 16]
    for length in range(1, 60):
        whole = torch.tensor(group_borders(length, 4, False)).diff()
        assert int(whole.max() - whole.min()) <= 1
        shifted = torch.tensor(group_borders(length, 4, True)).diff()
        assert int(shifted.sum()) == length
        assert int(shifted.min()) >= 1
        assert int(shifted.max()) <= -(-length // 4)


@pytest.mark.parametrize(("length", "groups", "kv_heads"), [(64, 4, 2), (64, 4, 5), (24, 2, 4), (48, 8, 3)])
def test_pairs_are_those_of_the_dense_mask(length, groups, kv_heads):
    masks = [dense_mask(length, groups, head >= kv_heads // 2) for head in range(kv_heads)]
    assert attended_pairs(length, kv_heads, groups) == sum(int(mask.sum()) for mask in masks)


def trainee(family: str = "llama"):
    """A model of full layers only (two KV heads, four query heads) that is to be trained with shifted groups."""
    model = tiny_hybrid(family, "all").train()
    model.use_shifted_groups()
    return model


def gradients(model, x, **options) -> list[torch.Tensor]:
    model.zero_grad()
    model(x, labels=x, **options).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("documents", [None, DOCUMENTS], ids=["whole", "packed"])
def test_a_model_is_trained_with_them_and_recomputes_them(family, documents, monkeypatch):
    model, x, options = trainee(family), tokens(64, 2 if documents is None else 1), {}
    if documents is not None:
        options = {"position_ids": positions_in_documents(PackedDocuments.of_lengths(documents), 64)}
    actual = gradients(model, x, **options)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    recomputed = gradients(model, x, **options)
    model.use_shifted_groups(None)
    full = gradients(model, x, **options)
    model.use_shifted_groups()
    monkeypatch.setattr(attention_module, "shifted_attention", dense)
    for got, again, other, want in zip(actual, recomputed, full, gradients(model, x, **options), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(again, got)
        assert not torch.allclose(other, want, rtol=1e-2, atol=1e-5)


def test_nothing_leaks_from_the_future():
    model = trainee()
    embedded = model.model.embed_tokens(tokens(64, 1)).detach().requires_grad_()
    logits = model(inputs_embeds=embedded).logits
    for position in (0, 7, 8, 20, 62):
        (gradient,) = torch.autograd.grad(logits[0, position].sum(), embedded, retain_graph=True)
        assert gradient[0, position].abs().max() > 0
        assert gradient[0, position + 1 :].abs().max() == 0


def test_evaluation_is_full():
    model, x = trainee(), tokens(64)
    plain = tiny_hybrid(layout="all")
    assert torch.equal(model.eval()(x).logits, plain(x).logits)
    assert torch.equal(model.generate(x, max_new_tokens=3), plain.generate(x, max_new_tokens=3))
    assert not torch.allclose(model.train()(x).logits, plain(x).logits)
    model.use_shifted_groups(None)
    assert torch.equal(model(x).logits, plain(x).logits)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="layout has 2 of 6 layers full: shifted groups need all"):
        tiny_hybrid(layout="middle:1/3").use_shifted_groups()
    model = tiny_hybrid(layout="all")
    for groups in (1, 0, 2.0, True):
        with pytest.raises(ConfigError, match=f"groups is {groups}: allowed is a whole number >= 2"):
            model.use_shifted_groups(groups)
    model.config.num_key_value_heads = 1
    with pytest.raises(ConfigError, match="num_key_value_heads is 1: shifted groups need at least 2"):
        model.use_shifted_groups()
    model, x = trainee(), tokens(16)
    padded = torch.ones_like(x)
    padded[0, :4] = 0
    cache = DynamicCache(config=model.config)
    model.eval()(x, past_key_values=cache)
    model.train()
    for options in ({"use_cache": True}, {"attention_mask": padded}, {"past_key_values": cache}):
        with pytest.raises(ValueError, match="shifted in training: allowed are no padding and no KV cache"):
            model(x, **options)


def share_a_row(rank: int, report, world: int) -> None:
    """One process of a row whose tokens are shared: its part of the loss, and the sum of all gradients."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for documents, recompute in ((None, False), (DOCUMENTS, True)):
        model, x = trainee("qwen3"), tokens(64, 2 if documents is None else 1)
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        options = {"position_ids": torch.arange(64)[None]}
        if documents is not None:
            packed = PackedDocuments.of_lengths(documents)
            mask = torch.ones(1, 64, dtype=torch.bool)
            options = {"position_ids": positions_in_documents(packed, 64), "packed": packed, "attention_mask": mask}
        upstream = torch.randn(len(x), 64, 64, generator=torch.Generator().manual_seed(0))
        alone = copy.deepcopy(model)
        alone.model(x, use_cache=False, **options).last_hidden_state.mul(upstream).sum().backward()
        exchange = SequenceParallel(dist.group.WORLD, 4, 2)
        for layer in model.model.layers:
            layer.self_attn.sequence_parallel = exchange
        own = slice(rank * 64 // world, (rank + 1) * 64 // world)
        options |= {name: options[name][:, own] for name in ("position_ids", "attention_mask") if name in options}
        hidden = model.model(x[:, own], use_cache=False, **options).last_hidden_state
        hidden.mul(upstream[:, own]).sum().backward()
        for (name, parameter), wanted in zip(model.model.named_parameters(), alone.model.parameters(), strict=True):
            dist.all_reduce(parameter.grad)
            error = float((parameter.grad - wanted.grad).abs().max() / wanted.grad.abs().max())
            if not error < 1e-4:
                report(f"packed {documents is not None}, rank {rank}: gradient of {name} is off by {error:.1e}")
    report(rank)
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_that_share_a_row_compute_what_one_computes():
    assert sorted(ranks(share_a_row, 2, 2), key=str) == [0, 1]
