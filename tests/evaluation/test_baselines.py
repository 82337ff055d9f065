"""KV reductions at inference: every method against its definition, on dense attention weights; budgets; generation."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from longgen.data.synthetic.tokenizer import encode_bytes
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.baselines import (
    METHODS,
    generate,
    kept_bytes,
    method_for_budget,
    optimise_gates,
    passkey_row,
    repositioned,
    scores,
)
from longgen.evaluation.baselines.duo_attention import DuoAttention
from longgen.evaluation.baselines.generation import attention_of
from longgen.evaluation.baselines.h2o import H2O
from longgen.evaluation.baselines.lm_infinite import LMInfinite
from longgen.evaluation.baselines.pyramidkv import PyramidKV, pyramid
from longgen.evaluation.baselines.sink_window import SinkWindow
from longgen.evaluation.baselines.snapkv import SnapKV
from longgen.evaluation.baselines.streaming_llm import StreamingLLM
from longgen.evaluation.baselines.tova import TOVA
from longgen.hybrid import Hybrid
from longgen.layout import Layout
from longgen.model import Model
from longgen.modeling import longgen_classes, longgen_config
from longgen.modeling.attention import register_implementation
from longgen.pattern import SparsePattern
from longgen.shapes import ModelShape
from tests.modeling.memory_tracker import MemoryTracker
from tests.modeling.models import tiny_base, tiny_hybrid, tokens

LAYERS, KV_HEADS, GROUP, HEAD_DIM = 6, 2, 2, 16
GATES = tuple(tuple(row) for row in np.random.default_rng(4).random((LAYERS, KV_HEADS)).tolist())
SMALL = SparsePattern(8, 1, 2)
FIELDS = {
    "sink-window": {"block_size": 8},
    "duo-attention": {"gates": GATES, "pattern": SMALL},
    "snapkv": {"window": 8},
}


def full_model(family: str = "llama"):
    """With larger weights than those it starts from: attention is not all but uniform, and tokens differ."""
    model = tiny_hybrid(family, "all").double()
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            for projection, factor in ((attention.q_proj, 12), (attention.k_proj, 12), (attention.v_proj, 6)):
                projection.weight.mul_(factor)
            attention.o_proj.weight.mul_(6)
            for norm in ("q_norm", "k_norm"):  # Qwen3
                if hasattr(attention, norm):
                    getattr(attention, norm).weight.mul_(2)
            layer.mlp.down_proj.weight.mul_(6)
    return model


def steps(model, method, x: torch.Tensor, prompt: int):
    """Logits of the last token and the cache, after the prompt and after every further token of ``x``."""
    cache = method.make_cache(model)
    with torch.no_grad(), attention_of(model, method.attention):
        for part in [x[:, :prompt], *x[:, prompt:].unbind(1)]:
            yield model(part.view(len(x), -1), past_key_values=cache, use_cache=True).logits[:, -1], cache


# ---------------------------------------------------------------- what a method keeps, from dense attention weights
def _masked(module, query, key, value, attention_mask, scaling, masks, weights, **_):
    key, value = (states.repeat_interleave(GROUP, 1) for states in (key, value))
    allowed = masks[module.layer_idx].repeat_interleave(GROUP, 1)
    dense = (query @ key.mT * scaling).masked_fill(~allowed, float("-inf")).softmax(-1)
    weights[module.layer_idx] = dense
    return (dense @ value).transpose(1, 2).contiguous(), None


register_implementation("masked_for_test", _masked)


def recomputed(model, x: torch.Tensor, prompt: int, keep):
    """As `steps`, without a cache: everything is computed anew, under masks of what every token could see.

    ``keep(layer, weights, seen)`` says by definition what stays: from the attention weights so far [heads, n, n] and
    the set of tokens that each KV head saw last, new sets. Yields logits and, for every layer, row and head, the set.
    """
    batch, length = x.shape
    masks = torch.ones(length, length, dtype=torch.bool).tril().expand(LAYERS, batch, KV_HEADS, -1, -1).clone()
    kept = [[[set()] * KV_HEADS for _ in range(batch)] for _ in range(LAYERS)]
    for end in range(prompt, length + 1):
        weights = {}
        with torch.no_grad(), attention_of(model, "masked_for_test"):
            part = [mask[:, :, :end, :end] for mask in masks]
            logits = model(x[:, :end], use_cache=False, masks=part, weights=weights).logits[:, -1]
        new = set(range(end)) if end == prompt else {end - 1}
        for layer in range(LAYERS):
            for row in range(batch):
                seen = [old | new for old in kept[layer][row]]
                kept[layer][row] = keep(layer, weights[layer][row].numpy(), seen)
        yield logits, kept
        if end < length:
            for layer, row, head in np.ndindex(LAYERS, batch, KV_HEADS):
                masks[layer, row, head, end] = False
                masks[layer, row, head, end, [*kept[layer][row][head], end]] = True


def best(candidates, score, count: int) -> set[int]:
    return set(sorted(candidates, key=lambda token: -score[token])[:count])


def group(weights: np.ndarray, head: int) -> np.ndarray:
    return weights[head * GROUP : (head + 1) * GROUP].mean(0)


def snapkv_keeps(capacity: int, window: int, kernel: int, pooling, by_layer=None):
    def keep(layer, weights, seen):
        length = weights.shape[-1]
        if seen[0] != set(range(length)) or length <= capacity:  # decoding: all stay
            return seen
        sets = []
        for head in range(KV_HEADS):
            votes = group(weights, head)[length - window :, : length - window].sum(0)
            padded = np.pad(votes, kernel // 2, constant_values=-np.inf if pooling is max else 0.0)
            pooled = [pooling(padded[i : i + kernel]) for i in range(length - window)]
            chosen = best(range(length - window), pooled, (by_layer or [capacity - window] * LAYERS)[layer])
            sets.append(chosen | set(range(length - window, length)))
        return sets

    return keep


def tova_keeps(capacity: int):
    def keep(layer, weights, seen):
        return [best(seen[0], weights[:, -1].mean(0), capacity)] * KV_HEADS

    return keep


def h2o_keeps(heavy: int, recent: int):
    def keep(layer, weights, seen):
        last = set(range(weights.shape[-1] - recent, weights.shape[-1]))
        if len(seen[0]) <= heavy + recent:
            return seen
        # a token that was evicted receives nothing any more, and one that stays was never evicted: all rows count
        received = [group(weights, head).sum(0) for head in range(KV_HEADS)]
        return [best(seen[head] - last, received[head], heavy) | last for head in range(KV_HEADS)]

    return keep


PRUNING = {
    "snapkv": (SnapKV(20, 6, 5), snapkv_keeps(20, 6, 5, max)),
    "snapkv, mean": (SnapKV(20, 6, 5, "avg"), snapkv_keeps(20, 6, 5, np.mean)),
    "snapkv, nothing to evict": (SnapKV(60, 6), snapkv_keeps(60, 6, 7, max)),
    "pyramidkv": (PyramidKV(14, 4, 3), snapkv_keeps(14, 4, 3, max, pyramid(10, LAYERS, 40, 4, 20))),
    "tova": (TOVA(17), tova_keeps(17)),
    "tova, fills up while decoding": (TOVA(43), tova_keeps(43)),
    "h2o": (H2O(9, 8), h2o_keeps(9, 8)),
    "h2o, fills up while decoding": (H2O(22, 21), h2o_keeps(22, 21)),
}


@pytest.mark.parametrize("name", PRUNING)
def test_kept_tokens_are_those_of_the_definition_step_by_step(name):
    method, keep = PRUNING[name]
    model, x = full_model(), tokens(46)
    compared = zip(steps(model, method, x, 40), recomputed(model, x, 40, keep), strict=True)
    for (actual, cache), (expected, sets) in compared:
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
        for index, layer in enumerate(cache.layers):
            assert [[set(head) for head in row] for row in layer.positions.tolist()] == sets[index]
            assert bool((layer.positions.diff(dim=-1) > 0).all())


def test_methods_that_choose_do_choose_differently_by_head_layer_and_row():
    model, x = full_model(), tokens(40)
    for method, differ in ((SnapKV(20, 6), True), (H2O(9, 8), True), (TOVA(17), False)):
        ((_, cache),) = steps(model, method, x, 40)
        positions = [layer.positions for layer in cache.layers]
        assert not torch.equal(positions[0], positions[1])
        assert not torch.equal(positions[0][0], positions[0][1])
        assert torch.equal(positions[0][:, 0], positions[0][:, 1]) != differ


@pytest.mark.parametrize(("mean", "layers", "length", "window", "beta"), [
    (100, 32, 1000, 8, 20), (379, 32, 1000, 8, 20), (488, 32, 1000, 8, 20), (97, 6, 256, 8, 20), (1, 5, 90, 8, 20),
    (3, 7, 90, 8, 2), (10, 1, 90, 8, 20), (45, 4, 90, 8, 1), (49, 6, 100, 8, 20),
])  # fmt: skip
def test_the_pyramid_is_the_authors_but_for_rounding_and_its_sum_is_exact(mean, layers, length, window, beta):
    shares = pyramid(mean, layers, length, window, beta)
    assert sum(shares) == mean * layers
    assert shares == sorted(shares, reverse=True)
    assert 0 <= shares[-1] <= shares[0] <= length - window
    lowest = mean // beta  # as in PyramidKVCluster.update_kv
    highest = 2 * mean - lowest
    if highest >= length - window:
        highest = length - window
        lowest = 2 * mean - highest
    if layers > 1:
        slope = (highest - lowest) / (layers - 1)
        assert np.abs(np.array(shares) - (highest - slope * np.arange(layers))).max() < 2


def test_beyond_half_of_the_tokens_the_pyramid_is_flat():
    assert pyramid(51, 4, 100, 8, 20) == [51] * 4
    assert pyramid(46, 4, 100, 8, 20) != [46] * 4


# ---------------------------------------------------------------- sinks at other distances
def by_distance(model, x: torch.Tensor, distance: np.ndarray) -> torch.Tensor:
    """Logits [batch, n, vocabulary] where query t meets key s at ``distance[t, s]``; -1 hides it."""

    def at_distance(module, query, key, value, attention_mask, scaling, **_):
        there = torch.arange(x.shape[1])
        query, key = turned(query, -there), turned(key, -there).repeat_interleave(GROUP, 1)  # RoPE undone
        far = torch.stack([turned(query, torch.from_numpy(distance[:, s])) @ key[:, :, s, :, None] for s in there], -1)
        hidden = torch.from_numpy(distance < 0)
        weights = (far.squeeze(-2) * scaling).masked_fill(hidden, float("-inf")).softmax(-1)
        return (weights @ value.repeat_interleave(GROUP, 1)).transpose(1, 2).contiguous(), None

    def turned(states, by):
        angle = by.double()[:, None] * model.model.rotary_emb.inv_freq.double()
        pairs = torch.complex(*states.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([pairs.real, pairs.imag], -1)

    register_implementation("distance_for_test", at_distance)
    with torch.no_grad(), attention_of(model, "distance_for_test"):
        return model(x, use_cache=False).logits


def streaming_distances(length: int, sinks: int, recent: int) -> np.ndarray:
    """By running StreamingLLM's cache token by token: positions are places in the cache."""
    distance, cache = np.full((length, length), -1), []
    for token in range(length):
        cache.append(token)
        for place, seen in enumerate(cache):
            distance[token, seen] = len(cache) - 1 - place
        if len(cache) > sinks + recent:
            cache = cache[:sinks] + cache[len(cache) - recent :]
    return distance


def ceiling_distances(length: int, sinks: int, window: int, ceiling: int) -> np.ndarray:
    distance = np.subtract.outer(np.arange(length), np.arange(length))
    allowed = (distance < window) | (np.arange(length) < sinks)
    return np.where(allowed & (distance >= 0), np.minimum(distance, ceiling), -1)


REPOSITIONED = {
    "streaming-llm": (StreamingLLM(13, 4), streaming_distances(70, 4, 13)),
    "streaming-llm, no sinks": (StreamingLLM(9, 0), streaming_distances(70, 0, 9)),
    "streaming-llm, more sinks than window": (StreamingLLM(1, 7), streaming_distances(70, 7, 1)),
    "lm-infinite": (LMInfinite(12, 5, 12), ceiling_distances(70, 5, 12, 12)),
    "lm-infinite, ceiling beyond the window": (LMInfinite(12, 5, 30), ceiling_distances(70, 5, 12, 30)),
    "lm-infinite, no ceiling": (LMInfinite(12, 5), ceiling_distances(70, 5, 12, 100)),
    "lm-infinite, nothing out of sight": (LMInfinite(100, 5), ceiling_distances(70, 5, 100, 100)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPOSITIONED)
@pytest.mark.parametrize("at_once", [2**26, 2000])
def test_sinks_are_met_at_the_distances_of_the_definition(name, at_once, monkeypatch):
    monkeypatch.setattr(repositioned, "scores_at_once", lambda _: at_once)  # the second: strips of a few tokens
    method, distance = REPOSITIONED[name]
    model, x = full_model(), tokens(70)
    expected = by_distance(model, x, distance)
    for prompt in (1, 3, 60):
        actual = torch.stack([logits for logits, _ in steps(model, method, x, prompt)], 1)
        # cosines are float32, and turning twice is not turning once
        torch.testing.assert_close(actual, expected[:, prompt - 1 :], rtol=1e-4, atol=1e-4)


def test_the_distances_matter():
    model, x = full_model(), tokens(70)
    true = by_distance(model, x, ceiling_distances(70, 4, 14, 70))
    in_cache = by_distance(model, x, streaming_distances(70, 4, 13))
    assert float((true - in_cache)[:, -1].abs().max()) > 1e-2


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_sink_and_window_at_true_positions_are_our_all_sparse_model(family):
    x, pattern = tokens(90), SparsePattern(1, 5, 12)
    methods = {LMInfinite(12, 5, 90): pattern, SinkWindow(pattern): pattern, SinkWindow(SMALL): SMALL}
    for method, sparse in methods.items():
        hybrid = tiny_hybrid(family, "none", sparse).double()
        with torch.no_grad():
            expected = hybrid(x, use_cache=False).logits
        dense = tiny_hybrid(family, "all").double()
        actual = torch.stack([logits for logits, _ in steps(dense, method, x, 60)], 1)
        torch.testing.assert_close(actual, expected[:, 59:], rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- DuoAttention
def test_duo_attention_is_our_hybrid_of_heads_with_the_highest_gates():
    method = DuoAttention(((0.1, 0.9), (0.2, 0.3), (1.0, 0.8), (0.0, 0.0), (0.5, 0.4), (0.7, 0.6)), 5, SMALL)
    full = ((False, True), (False, False), (True, True), (False, False), (False, False), (True, True))
    base = tiny_base()
    config = longgen_config(base.config, Layout(full), SMALL)
    hybrid = longgen_classes("llama")[1](config).eval()
    hybrid.load_state_dict(base.state_dict())
    hybrid, x = hybrid.double(), tokens(90)
    with torch.no_grad():
        expected = hybrid(x, use_cache=False).logits
    actual = torch.stack([logits for logits, _ in steps(tiny_hybrid(layout="all").double(), method, x, 60)], 1)
    torch.testing.assert_close(actual, expected[:, 59:], rtol=1e-9, atol=1e-9)


def test_gates_close_where_full_attention_makes_no_difference():
    model = full_model().float()
    with torch.no_grad():
        for index, layer in enumerate(model.model.layers):  # what KV head ``index % 2`` says is not heard
            heard = layer.self_attn.o_proj.weight.view(64, KV_HEADS, GROUP * HEAD_DIM)
            heard[:, index % 2] = 0.0
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    asked = torch.zeros(2, 64, dtype=torch.bool)
    asked[:, -16:] = True
    batches = [(tokens(64, seed=seed), asked) for seed in range(25)]
    gates = np.array(optimise_gates(model, batches, SparsePattern(8, 1, 1), learning_rate=0.05, penalty=1e-3))
    assert gates.shape == (LAYERS, KV_HEADS)
    closed = gates[np.arange(LAYERS), np.arange(LAYERS) % 2]
    assert (closed == 0.0).all()
    assert gates.sum(1).min() > 0.1
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.config._attn_implementation == "longgen"


def test_pass_keys_are_hidden_and_recited():
    text = encode_bytes("Nothing happened. " * 400)
    for passkeys, words in ((1, 4), (10, 5)):
        row, asked = passkey_row(np.random.default_rng(3), text, encode_bytes, 3000, passkeys, words)
        assert row.shape == asked.shape == (3000,)
        assert (row.dtype, asked.dtype) == (np.int64, bool)
        said = bytes(row.tolist()).decode()
        for number in ("first", "tenth")[: 1 + passkeys // 10]:
            key = said.split(f"The {number} pass key of the vault is: ")[1].split(".\n")[0]
            assert len(key.split(" ")) == words
            assert said.split(f"What is the {number} pass key of the vault? It is: ")[1].startswith(key)
        recited = bytes(row[asked].tolist()).decode()
        hidden = [part.split(".\n")[0] for part in said.split("pass key of the vault is: ")[1:]]
        assert recited == "".join(hidden)


# ---------------------------------------------------------------- generation and budgets, all methods
def budgeted(name: str, fraction, length: int, model):
    return method_for_budget(name, fraction, length, model, **FIELDS.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_full_budget_generates_what_the_full_model_does(name, family):
    model, x = full_model(family), tokens(70)
    expected = model.generate(x, max_new_tokens=20, do_sample=False, eos_token_id=None)[:, 70:]
    assert min(len(set(row)) for row in expected.tolist()) > 5
    method = budgeted(name, 1.0, 90, model).method
    assert torch.equal(generate(model, x, 20, method).tokens, expected)
    assert model.config._attn_implementation == "longgen"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("length", [70, 128, 129])
@pytest.mark.parametrize("fraction", [Fraction(3, 8), 0.38, 0.5, 0.77, 1])
def test_budgets_are_met_to_the_byte(name, length, fraction):
    model, x = tiny_hybrid(layout="all").double(), tokens(length)
    method, kept, full = budgeted(name, fraction, length, model)
    assert full == Model(
        ModelShape("tiny", LAYERS, 64, 96, 4, KV_HEADS, HEAD_DIM, 128), Hybrid(Layout((True,) * LAYERS), SMALL)
    ).kv_cache_bytes(length, 8)
    assert kept <= fraction * full
    # tokens per KV head, on average, by which the method can be made larger
    step = {"sink-window": 8, "duo-attention": length / (LAYERS * KV_HEADS)}.get(name, 1)
    assert kept > (fraction - step / length) * full
    generated = generate(model, x, 3, method)
    assert generated.kept_bytes == 2 * kept  # two rows
    assert generated.tokens.shape == (2, 3)


def test_the_ceiling_is_the_trained_length_and_bounds_the_window():
    model = tiny_hybrid(layout="all")
    assert model.config.max_position_embeddings == 512
    assert method_for_budget("lm-infinite", 0.5, 400, model).method == LMInfinite(191, 10, 512)
    assert method_for_budget("lm-infinite", 0.9, 1000, model).method == LMInfinite(512, 10, 512)
    assert method_for_budget("lm-infinite", 0.5, 400, model, ceiling=None, sinks=4).method == LMInfinite(197, 4)


@pytest.mark.parametrize("name", METHODS)
def test_bytes_are_counted_in_the_dtype_of_the_model(name):
    model, x = full_model(), tokens(70)  # two rows
    single = budgeted(name, 0.4, 70, model.float())
    assert generate(model, x, 3, single.method).kept_bytes == 2 * single.kept_bytes
    half = budgeted(name, 0.4, 70, model.bfloat16())
    assert generate(model, x, 3, half.method).kept_bytes == 2 * half.kept_bytes
    assert half == (single.method, single.kept_bytes // 2, single.full_bytes // 2)


@pytest.mark.parametrize("name", METHODS)
def test_rows_do_not_know_of_each_other(name):
    model, x = full_model(), tokens(70, batch=3)
    method = budgeted(name, 0.4, 70, model).method
    together = generate(model, x, 8, method).tokens
    assert torch.equal(together, torch.cat([generate(model, row, 8, method).tokens for row in x.split(1)]))


def test_a_reduced_cache_is_not_the_full_one():
    model, x = full_model(), tokens(200)
    full = torch.stack([logits for logits, _ in steps(model, TOVA(300), x, 200)], 1)
    for name in METHODS:
        method = budgeted(name, 0.38, 200, model).method
        *_, (last, _) = steps(model, method, torch.cat([x, x[:, :4]], 1), 200)
        assert float((last - full[:, -1]).abs().max()) > 1e-3


@pytest.mark.parametrize(("name", "growth"), [
    ("lm-infinite", 0), ("streaming-llm", 0), ("tova", 0), ("h2o", 0), ("snapkv", 10), ("pyramidkv", 10),
])  # fmt: skip
def test_what_is_kept_while_decoding(name, growth):
    model, x = tiny_hybrid(layout="all").double(), tokens(80)
    method = budgeted(name, 0.5, 70, model).method
    sizes = [kept_bytes(cache) for _, cache in steps(model, method, x, 70)]
    assert sizes[-1] - sizes[0] == growth * 2 * LAYERS * KV_HEADS * 2 * HEAD_DIM * 8


def test_scores_computed_in_strips_are_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 4, 30, 16, generator=generator, dtype=torch.float64)
    key = torch.randn(2, 2, 50, 16, generator=generator, dtype=torch.float64)
    whole = scores.attention_mass(query, key, 0.3)
    assert float(whole.sum()) == pytest.approx(2 * 2 * 30)  # every query gives away 1
    monkeypatch.setattr(scores, "scores_at_once", lambda _: 4 * 2 * 50 * 7)
    torch.testing.assert_close(scores.attention_mass(query, key, 0.3), whole)


def test_memory_of_a_method_is_not_quadratic():
    """Of every tensor that is made while a prompt is read, none has a number for every pair of tokens."""
    model, x = tiny_hybrid(layout="all"), tokens(3000, batch=1)
    for name, method in {"snapkv": SnapKV(100), "streaming-llm": StreamingLLM(60), "tova": TOVA(100)}.items():
        with MemoryTracker() as tracker:
            generate(model, x, 2, method)
        assert tracker.largest < 3000 * 3000 / 8 * model.dtype.itemsize, name


def test_a_row_ends_at_a_stop_token():
    model, x = full_model(), tokens(30)
    method = SnapKV(20, 8)
    free = generate(model, x, 12, method).tokens
    stop = int(free[0, 3])
    assert stop not in free[1, :6]
    stopped = generate(model, x, 12, method, stop=[stop]).tokens
    first = free[0].tolist().index(stop)
    assert stopped[0].tolist() == free[0, :first].tolist() + [stop] * (stopped.shape[1] - first)
    ends = free[1].tolist().index(stop) if stop in free[1] else 11
    assert torch.equal(stopped[1], free[1, : stopped.shape[1]])
    assert stopped.shape[1] == max(first, ends) + 1


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(("make", "message"), [
    (lambda: SnapKV(32), "capacity is 32: allowed is a whole number >= 33"),
    (lambda: SnapKV(64, kernel=4), "kernel is 4: allowed is an odd number"),
    (lambda: SnapKV(64, pooling="min"), "pooling is 'min': allowed are max, avg"),
    (lambda: PyramidKV(64, beta=0), "beta is 0: allowed is a whole number >= 1"),
    (lambda: TOVA(0), "capacity is 0: allowed is a whole number >= 1"),
    (lambda: H2O(3, 0), "recent is 0: allowed is a whole number >= 1"),
    (lambda: StreamingLLM(2.5), "recent is 2.5: allowed is a whole number >= 1"),
    (lambda: StreamingLLM(2, -1), "sinks is -1: allowed is a whole number >= 0"),
    (lambda: LMInfinite(8, ceiling=7), "ceiling is 7: allowed is a whole number >= 8"),
    (lambda: DuoAttention(GATES, 13), "retrieval_heads is 13: allowed are at most 12, one per gate"),
])  # fmt: skip
def test_impossible_sizes_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(("name", "fraction", "fields", "message"), [
    ("quest", 0.5, {}, "method is 'quest': allowed are sink-window, lm-infinite"),
    ("tova", 0.0, {}, "fraction is 0.0: allowed is above 0 and at most 1"),
    ("tova", 1.5, {}, "fraction is 1.5: allowed is above 0 and at most 1"),
    ("tova", float("nan"), {}, "fraction is nan: allowed is above 0 and at most 1"),
    ("tova", 0.5, {"window": 3}, "tova: .*unexpected keyword argument 'window'"),
    ("tova", 0.001, {}, "tova: the budget is 0.1 tokens per KV head: this method needs at least 1"),
    ("snapkv", 0.3, {}, "snapkv: the budget is 30 tokens per KV head: this method needs at least 33"),
    ("streaming-llm", 0.04, {}, "streaming-llm: the budget is 4 tokens per KV head: this method needs at least 5"),
    ("sink-window", 0.3, {}, "sink-window: the budget is 30 tokens per KV head: this method needs at least 100"),
    ("duo-attention", 0.3, {}, "duo-attention: gates are missing: allowed is what `optimise_gates` gives"),
    ("duo-attention", 0.3, {"gates": GATES}, "the budget is 30 tokens per KV head: streaming heads alone have 100"),
])  # fmt: skip
def test_impossible_budgets_are_refused(name, fraction, fields, message):
    with pytest.raises(ConfigError, match=message):
        method_for_budget(name, fraction, 100, tiny_hybrid(layout="all"), **fields)


def test_what_cannot_be_generated_is_refused():
    model, x = tiny_hybrid(layout="all"), tokens(20)
    for given, count, message in (
        (x, 0, "max_new_tokens is 0: allowed is a whole number >= 1"),
        (x[0], 3, r"input_ids are torch.int64 \[20\]: allowed is torch.int64 \[batch, tokens\]"),
        (x[:, :0], 3, r"input_ids are torch.int64 \[2, 0\]"),
        (x.float(), 3, r"input_ids are torch.float32 \[2, 20\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate(model, given, count, TOVA(10))
    with pytest.raises(ConfigError, match=r"layout has 2 of 6 layers full: KV reductions need all; .*--layout all`"):
        generate(tiny_hybrid(), x, 3, TOVA(10))
    with pytest.raises(
        ConfigError, match=r"model_type is 'llama': KV reductions need a converted model; .*--layout all`"
    ):
        generate(tiny_base(), x, 3, TOVA(10))
    with pytest.raises(ConfigError, match=r"gates are of \[2, 2\] KV heads: the model has \[2, 2, 2, 2, 2, 2\]"):
        generate(model, x, 3, DuoAttention(GATES[:2], 1))
    cache = TOVA(10).make_cache(model)
    with attention_of(model, TOVA.attention), pytest.raises(ValueError, match="2 tokens after the prompt: allowed is"):
        model(x, past_key_values=cache, use_cache=True)
        model(x[:, :2], past_key_values=cache, use_cache=True)
    model.config.rope_parameters = model.config.rope_parameters | {"rope_type": "dynamic"}
    with pytest.raises(
        ConfigError, match="rope_type is 'dynamic', whose frequencies depend on the length of each call"
    ):
        generate(model, x, 3, StreamingLLM(10))


@pytest.mark.parametrize("asked", [None, "nothing"])
def test_gates_need_a_full_model_and_something_asked_for(asked):
    batch = (tokens(20), torch.zeros(2, 20, dtype=torch.bool))
    with pytest.raises(ConfigError, match="a batch asks for no token" if asked else "KV reductions need all"):
        optimise_gates(tiny_hybrid(layout="all" if asked else "none"), [batch])


def test_gates_of_a_model_whose_states_are_no_numbers_are_refused():
    model = tiny_hybrid(layout="all")
    model.model.norm.weight.data[3] = float("nan")
    batch = (tokens(20), torch.ones(2, 20, dtype=torch.bool))
    with pytest.raises(ArtifactError, match=r"a gate that was learned is not a number: .* damaged"):
        optimise_gates(model, [batch])


def test_pass_keys_without_room_are_refused():
    text = encode_bytes("Nothing happened. " * 40)
    generator = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="passkeys is 11: allowed are 1 to 10"):
        passkey_row(generator, text, encode_bytes, 3000, 11)
    with pytest.raises(ConfigError, match=r"length is 300: pass keys take .* tokens, and the text has 720"):
        passkey_row(generator, text, encode_bytes, 300)
