"""A cache that records its past goes back by as many tokens as are asked, and is then as if they had never come."""

import copy

import pytest
import torch

from longgen.errors import ConfigError
from longgen.modeling import LongGenCache
from longgen.modeling.cache import exact
from longgen.pattern import SparsePattern
from tests.modeling.models import LAYOUTS, PATTERNS, tiny_hybrid, tokens
from tests.modeling.test_cache import feed, planned_bytes

SPARSE = SparsePattern(8, 1, 2)


def sparse_bytes(cache: LongGenCache) -> int:
    """Of keys and values of sparse heads alone: full heads keep the room that they have."""
    parts = [part for _, part in cache.parts() if part.head_pattern.pattern is not None]
    return sum(tensor.untyped_storage().nbytes() for part in parts for tensor in part.tensors().values())


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_what_was_taken_back_leaves_no_trace(layout, pattern):
    hybrid = tiny_hybrid(layout=layout, pattern=pattern).double()
    text, wrong = tokens(140), tokens(140, seed=9)
    expected = feed(hybrid, text, LongGenCache(hybrid.config))
    cache, plain = (LongGenCache(hybrid.config) for _ in range(2))
    cache.activate_past_recording()
    right = [feed(hybrid, text[:, :70], cache)]
    cache.crop(0)
    feed(hybrid, text[:, :70], plain)
    length = 70
    for drafts in ([[1]], [[20]], [[30], [1], [1]], [[7], [25]], [[1], [1], [1]]):
        # a draft of which only the first token was right, read in one call or in several
        sizes = [size for (size,) in drafts]
        draft = torch.cat([text[:, length : length + 1], wrong[:, : sum(sizes) - 1]], 1)
        right.append(feed(hybrid, draft, cache, *sizes)[:, :1])
        cache.crop(1 - sum(sizes))
        length += 1
        feed(hybrid, text[:, length - 1 : length], plain)
        assert int(cache.get_seq_length()) == length
        assert sparse_bytes(cache) == sparse_bytes(plain)
    for layer in cache.layers:
        layer.record_past = False  # as transformers' generation does
    right.append(feed(hybrid, text[:, length:], cache, *[1] * 20, 140 - length - 20))
    torch.testing.assert_close(torch.cat(right, 1), expected, rtol=1e-9, atol=1e-9)


def test_without_recording_a_cache_holds_what_is_planned_and_goes_back_where_nothing_was_evicted():
    hybrid = tiny_hybrid(pattern=SPARSE)
    cache, x = LongGenCache(hybrid.config), tokens(64)
    feed(hybrid, x[:, :15], cache)
    cache.crop(-10)  # all 15 tokens were still in sight
    feed(hybrid, x[:, 5:62], cache)
    cache.crop(-5)  # to 57, within the block that begins at 56
    assert cache.nbytes() == planned_bytes(hybrid, 57)
    before = {name: tensor.clone() for name, part in cache.parts() for tensor in part.tensors().values()}
    with pytest.raises(ValueError, match="cannot be cropped: 2 tokens are to go, and some that were in sight before"):
        cache.crop(-2)
    after = {name: tensor for name, part in cache.parts() for tensor in part.tensors().values()}
    assert all(torch.equal(before[name], after[name]) for name in before)  # full layers were not cropped either
    feed(hybrid, x[:, 57:], cache)
    assert cache.nbytes() == planned_bytes(hybrid, 64)
    for wrong in (3, -65):
        with pytest.raises(ValueError, match=f"tokens_to_remove is {wrong}: allowed are -64, all tokens, to 0"):
            cache.crop(wrong)


def test_a_prompt_is_not_held_for_the_sake_of_a_draft(monkeypatch):
    monkeypatch.setattr(exact, "DRAFT_TOKENS", 20)
    hybrid, x = tiny_hybrid(layout="none", pattern=SPARSE), tokens(400)
    cache = LongGenCache(hybrid.config)
    cache.activate_past_recording()
    feed(hybrid, x, cache)
    assert sparse_bytes(cache) <= 6 * 2 * 2 * 2 * 16 * 4 * (SPARSE.kept_count(380) + 20)
    with pytest.raises(ValueError, match="at most 20"):
        cache.crop(-40)
    cache.crop(-20)
    assert cache.nbytes() == planned_bytes(hybrid, 380)


def test_a_recording_cache_is_saved_and_reordered_as_any_other(tmp_path):
    hybrid, x = tiny_hybrid(layout="heads:1/3", pattern=PATTERNS[-1]), tokens(120, batch=2)
    expected = feed(hybrid, x, LongGenCache(hybrid.config))
    cache = LongGenCache(hybrid.config)
    cache.activate_past_recording()
    assert all(cache.is_recording_past(layer) for layer in range(6))
    feed(hybrid, x[:, :90], cache, 60, 30)
    cache.reorder_cache(torch.tensor([1, 0]))
    slots = copy.deepcopy(cache)
    for layer in slots.layers:
        layer.record_past = False
    slots.use_slots()
    cache.save(tmp_path / "prompt.safetensors")
    loaded = LongGenCache.load(tmp_path / "prompt.safetensors", hybrid.config)
    for one in (cache, loaded, slots):
        actual = feed(hybrid, x[[1, 0], 90:], one, *[1] * 30)
        torch.testing.assert_close(actual, expected[[1, 0], 90:], rtol=1e-4, atol=1e-5)


def test_a_cache_that_cannot_go_back_names_one_that_can():
    hybrid, x = tiny_hybrid(), tokens(30)
    mask = torch.ones_like(x)
    mask[0, :4] = 0
    padded = LongGenCache(hybrid.config)
    with torch.no_grad():
        hybrid(x, attention_mask=mask, past_key_values=padded)
    for cache, reason in (
        (LongGenCache(hybrid.config, max_length=60), "max_length is 60: allowed is None"),
        (LongGenCache(hybrid.config, full_bits=8), "full_bits is 8: allowed is None"),
        (padded, "its rows are padded"),
    ):
        assert not cache.is_croppable
        with pytest.raises(ValueError, match=rf"cannot be cropped: {reason}.* use LongGenCache\(config\)"):
            cache.activate_past_recording()
        if cache is not padded:
            feed(hybrid, x, cache)
        with pytest.raises(ValueError, match=f"cannot be cropped: {reason}"):
            cache.crop(-1)
        cache.crop(0)
    recording = LongGenCache(hybrid.config)
    recording.activate_past_recording()
    with torch.no_grad(), pytest.raises(ConfigError, match="hides a token and the cache is to be cropped"):
        hybrid(x, attention_mask=mask, past_key_values=recording)
