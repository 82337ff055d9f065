"""The KV cache: its size to the byte, what it keeps alive, files, continuation, rows of a batch."""

import pytest
import torch
from transformers import DynamicCache

from longgen.cache_layout import GROWTH_TOKENS
from longgen.errors import ArtifactError, ConfigError
from longgen.model import Model
from longgen.modeling import LongGenCache, hybrid_of
from longgen.pattern import SparsePattern
from longgen.shapes import ModelShape
from tests.modeling.models import LAYOUTS, PATTERNS, combined, tiny_base, tiny_hybrid, tokens

SHAPE = ModelShape("tiny", 6, 64, 96, 4, 2, 16, 128, True)


def planned_bytes(hybrid, length: int, **options) -> int:
    return Model(SHAPE, hybrid_of(hybrid.config)).kv_cache_bytes(length, 4, 2, GROWTH_TOKENS, **options)


def feed(hybrid, x: torch.Tensor, cache: LongGenCache, *sizes: int) -> torch.Tensor:
    """Logits of ``x``, given to the model in pieces of ``sizes``."""
    with torch.no_grad():
        parts = torch.split(x, sizes or x.shape[1], dim=1)
        return torch.cat([hybrid(part, past_key_values=cache, use_cache=True).logits for part in parts], 1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("sizes", [[1], [8], [7, 1], [100, 1, 1], [250, 1, 1, 1, 1, 1, 1], [300, 40]], ids=str)
def test_bytes_equal_the_planner(layout, pattern, sizes):
    hybrid = tiny_hybrid(layout=layout, pattern=pattern)
    x = tokens(sum(sizes))
    cache = LongGenCache(hybrid.config)
    feed(hybrid, x, cache, *sizes)
    assert cache.nbytes() == planned_bytes(hybrid, sum(sizes))
    slots = LongGenCache(hybrid.config)
    slots.use_slots()
    feed(hybrid, x, slots, *sizes)
    fixed = LongGenCache(hybrid.config, max_length=400)
    feed(hybrid, x, fixed, *sizes)
    assert slots.nbytes() == planned_bytes(hybrid, sum(sizes), slots=True)
    assert fixed.nbytes() == planned_bytes(hybrid, 400, slots=True)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("sizes", [[1], [63, 1], [64, 1], [300, 1, 1], [250] + [1] * 80], ids=str)
def test_bytes_of_a_quantised_cache_equal_the_planner(bits, sizes):
    hybrid = tiny_hybrid()
    cache = LongGenCache(hybrid.config, full_bits=bits)
    feed(hybrid, tokens(sum(sizes)), cache, *sizes)
    assert cache.nbytes() == planned_bytes(hybrid, sum(sizes), full_bits=bits)


def test_sparse_layers_do_not_keep_the_prefill_alive():
    hybrid = tiny_hybrid(layout="none", pattern=SparsePattern(8, 1, 2))
    cache = LongGenCache(hybrid.config)
    feed(hybrid, tokens(400), cache)
    kept = SparsePattern(8, 1, 2).kept_count(400)
    assert all(layer.keys.untyped_storage().nbytes() == 2 * 2 * kept * 16 * 4 for layer in cache.layers)


def test_a_cache_of_ours_is_the_default_and_a_plain_cache_is_right_too():
    hybrid, x = tiny_hybrid().double(), tokens(90)
    with torch.no_grad():
        output = hybrid(x)
        assert isinstance(output.past_key_values, LongGenCache)
        assert hybrid(x, use_cache=False).past_key_values is None
        assert hybrid.train()(x).past_key_values is None
        hybrid.eval()
        plain = DynamicCache(config=tiny_base().config)
        parts = [hybrid(part, past_key_values=plain, use_cache=True).logits for part in torch.split(x, [50, 40], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), output.logits, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "pattern", "max_length"), combined(LAYOUTS, PATTERNS, [None, 120]), ids=str)
def test_tokens_in_slots_are_as_good_as_tokens_in_order(layout, pattern, max_length):
    hybrid, x = tiny_hybrid(layout=layout, pattern=pattern).double(), tokens(120)
    expected = feed(hybrid, x, LongGenCache(hybrid.config))
    for sizes in ([120], [*[1] * 45, 40, *[1] * 35], [7, 40, 1, 1, 30, 41]):
        cache = LongGenCache(hybrid.config, max_length)
        cache.use_slots()
        torch.testing.assert_close(feed(hybrid, x, cache, *sizes), expected, rtol=1e-9, atol=1e-9)
        assert int(cache.get_seq_length()) == 120


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_an_exact_cache_can_turn_to_slots_midway(layout, pattern):
    hybrid, x = tiny_hybrid(layout=layout, pattern=pattern).double(), tokens(120)
    expected = feed(hybrid, x, LongGenCache(hybrid.config))
    cache = LongGenCache(hybrid.config)
    feed(hybrid, x[:, :75], cache, 70, 5)
    cache.use_slots()
    rest = feed(hybrid, x[:, 75:], cache, 1, 1, 20, 23)
    torch.testing.assert_close(rest, expected[:, 75:], rtol=1e-9, atol=1e-9)


KINDS = {"exact": {}, "slots": {}, "fixed": {"max_length": 200}, "int8": {"full_bits": 8}, "int4": {"full_bits": 4}}


def make(hybrid, kind: str) -> LongGenCache:
    cache = LongGenCache(hybrid.config, **KINDS[kind])
    if kind == "slots":
        cache.use_slots()
    return cache


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layout", "length"), combined(list(KINDS), LAYOUTS[:2], [1, 130]), ids=str)
def test_a_saved_prompt_continues_to_the_bit(kind, layout, length, tmp_path):
    hybrid, x = tiny_hybrid(layout=layout, pattern=PATTERNS[-1]), tokens(200)
    cache = make(hybrid, kind)
    feed(hybrid, x[:, :length], cache)
    cache.save(tmp_path / "prompt.safetensors")
    loaded = LongGenCache.load(tmp_path / "prompt.safetensors", hybrid.config)
    rest, sizes = x[:, length:], [*[1] * 30, 140 - length, *[1] * 30]
    assert torch.equal(feed(hybrid, rest, loaded, *sizes), feed(hybrid, rest, cache, *sizes))
    assert int(loaded.get_seq_length()) == 200
    assert loaded.nbytes() == cache.nbytes()


def test_what_cannot_be_loaded_is_refused(tmp_path):
    hybrid, path = tiny_hybrid(), tmp_path / "prompt.safetensors"
    with pytest.raises(ArtifactError, match=r"prompt\.safetensors is missing"):
        LongGenCache.load(path, hybrid.config)
    with pytest.raises(ArtifactError, match="the cache is empty"):
        LongGenCache(hybrid.config).save(path)
    assert not path.exists()
    cache = LongGenCache(hybrid.config)
    feed(hybrid, tokens(30), cache)
    cache.save(path)
    with pytest.raises(ArtifactError, match=r"prompt\.safetensors: layout is \['sparse', 'sparse', 'full'"):
        LongGenCache.load(path, tiny_hybrid(layout="none").config)
    with pytest.raises(ArtifactError, match="model_type is 'longgen_llama': this model has 'longgen_qwen3'"):
        LongGenCache.load(path, tiny_hybrid("qwen3").config)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="not a readable KV cache"):
        LongGenCache.load(path, hybrid.config)
    hybrid.save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="format is 'pt'"):
        LongGenCache.load(tmp_path / "model.safetensors", hybrid.config)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_rows_can_be_reordered_repeated_and_selected(kind, layout):
    hybrid, x = tiny_hybrid(layout=layout, pattern=PATTERNS[-1]), tokens(150, batch=3)
    changes = [
        ("reorder_cache", torch.tensor([2, 0, 0]), [2, 0, 0]),
        ("batch_select_indices", torch.tensor([2, 1]), [2, 1]),
        ("batch_repeat_interleave", 2, [0, 0, 1, 1, 2, 2]),
    ]
    for method, argument, rows in changes:
        cache, expected = make(hybrid, kind), make(hybrid, kind)
        feed(hybrid, x[:, :140], cache)
        getattr(cache, method)(argument)
        feed(hybrid, x[rows, :140], expected)
        new = x[rows, 140:]
        actual = feed(hybrid, new, cache, *[1] * 10)
        torch.testing.assert_close(actual, feed(hybrid, new, expected, *[1] * 10), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_cache_is_as_good_as_new(kind):
    hybrid, x = tiny_hybrid(layout="heads:1/3", pattern=PATTERNS[-1]), tokens(120)
    cache = make(hybrid, kind)
    expected = feed(hybrid, x, cache, 100, *[1] * 20)
    cache.reset()
    assert int(cache.get_seq_length()) == 0
    assert torch.equal(feed(hybrid, x, cache, 100, *[1] * 20), expected)


def test_a_conversation_continues_in_generate():
    hybrid, x = tiny_hybrid(), tokens(61)
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    cache = LongGenCache(hybrid.config)
    first = hybrid.generate(x, past_key_values=cache, **options)
    assert cache.get_seq_length() == 80  # all but the last token, which nothing was asked of yet
    turn = torch.cat([first, tokens(30, seed=8)], 1)
    second = hybrid.generate(turn, past_key_values=cache, **options)
    assert torch.equal(second, hybrid.generate(turn, use_cache=False, **options))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_token_more_than_max_length_is_refused_and_changes_nothing(layout):
    hybrid, x = tiny_hybrid(layout=layout, pattern=SparsePattern(8, 0, 2)), tokens(40, batch=2)
    cache = LongGenCache(hybrid.config, max_length=32)
    feed(hybrid, x[:, :32], cache, 20, *[1] * 12)
    for more in (1, 3):
        with pytest.raises(ValueError, match=f"{32 + more} tokens: allowed are 32, the max_length of this cache"):
            feed(hybrid, x[:, 32 : 32 + more], cache)
        assert int(cache.get_seq_length()) == int(cache.row_lengths().max()) == 32
    cache.reset()
    feed(hybrid, x[:, :31], cache)
    mask = torch.ones_like(x)
    mask[0, :30], mask[1, 32:] = 0, 0  # padding does not count: rows of 10 and 32 tokens
    padded = LongGenCache(hybrid.config, max_length=33)
    with torch.no_grad():
        hybrid(x, attention_mask=mask, past_key_values=padded)
        hybrid(x[:, :1], past_key_values=padded)
        with pytest.raises(ValueError, match="34 tokens: allowed are 33"):
            hybrid(x[:, :1], past_key_values=padded)


def test_what_a_cache_cannot_do_is_refused():
    hybrid = tiny_hybrid()
    for options, message in (
        ({"max_length": 0}, "max_length is 0: allowed is a whole number >= 1"),
        ({"full_bits": 2}, "full_bits is 2: allowed are 8, 4 or None"),
        ({"full_bits": 8, "max_length": 9}, "full_bits is 8: allowed is None with max_length 9"),
    ):
        with pytest.raises(ConfigError, match=message):
            LongGenCache(hybrid.config, **options)
    with pytest.raises(ValueError, match="40 tokens: allowed are 32"):
        feed(hybrid, tokens(40), LongGenCache(hybrid.config, max_length=32))
    with pytest.raises(ValueError, match="cache_implementation is 'offloaded': allowed are 'dynamic', 'static'"):
        hybrid.generate(tokens(5), max_new_tokens=2, cache_implementation="offloaded")
