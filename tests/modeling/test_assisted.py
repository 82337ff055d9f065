"""Assisted decoding: drafts by prompt lookup, by another model or by the model's own lower layers change no token."""

import pytest
import torch
from transformers import DynamicCache

from longgen.errors import ConfigError
from longgen.modeling import LongGenCache
from tests.modeling.models import LAYOUTS, PATTERNS, tiny_base, tiny_hybrid, tokens

# with the penalty, for a tiny model would go on with one token for ever
OPTIONS = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "repetition_penalty": 3.0}


def repetitive(length: int = 70) -> torch.Tensor:
    """A prompt whose n-grams come again, with other tokens after them: lookup finds drafts, and most are wrong."""
    phrase = tokens(12, batch=1, seed=1)
    return torch.cat([phrase, tokens(9, batch=1, seed=2)] * 4, 1)[:, :length]


@pytest.fixture
def taken_back(monkeypatch) -> list[int]:
    """How many tokens were taken back, each time."""
    counts, crop = [], LongGenCache.crop

    def counting(self, tokens_to_remove: int) -> None:
        counts.append(-tokens_to_remove)
        crop(self, tokens_to_remove)

    monkeypatch.setattr(LongGenCache, "crop", counting)
    return counts


def lively(model):
    """With weights that are large enough for the greedy continuation to wander; its drafts have 7 tokens."""
    model.generation_config.update(num_assistant_tokens=7, assistant_confidence_threshold=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "pattern"), [(layout, PATTERNS[-1]) for layout in LAYOUTS] + [("none", PATTERNS[3])]
)
def test_tokens_are_those_of_plain_decoding(layout, pattern, taken_back):
    hybrid, base, x = lively(tiny_hybrid(layout=layout, pattern=pattern)), lively(tiny_base()), repetitive()
    plain = hybrid.generate(x, **OPTIONS)
    assert len(set(plain[0, 70:].tolist())) > 5
    for draft in (
        {"prompt_lookup_num_tokens": 6},
        {"assistant_model": base},
        {"assistant_model": lively(tiny_hybrid(layout=layout, pattern=PATTERNS[0]))},
        {"assistant_early_exit": 3},
        {"prompt_lookup_num_tokens": 6, "past_key_values": DynamicCache(config=base.config)},
    ):
        taken_back.clear()
        assert torch.equal(hybrid.generate(x, **draft, **OPTIONS), plain), draft
        if "past_key_values" not in draft:
            assert max(taken_back) > 1
    assert hybrid.config.num_hidden_layers == 6
    assert torch.equal(hybrid.generate(x, **OPTIONS), plain)


def test_a_hybrid_drafts_for_its_base(taken_back):
    hybrid, base, x = lively(tiny_hybrid(pattern=PATTERNS[3])), lively(tiny_base()), repetitive()
    assert torch.equal(base.generate(x, assistant_model=hybrid, **OPTIONS), base.generate(x, **OPTIONS))
    assert max(taken_back) > 1


def test_a_conversation_goes_on_with_the_cache_of_assisted_decoding():
    hybrid, x = lively(tiny_hybrid(pattern=PATTERNS[-1])), repetitive()
    cache = LongGenCache(hybrid.config)
    first = hybrid.generate(x, past_key_values=cache, prompt_lookup_num_tokens=6, **OPTIONS)
    turn = torch.cat([first, tokens(30, batch=1, seed=8)], 1)
    expected = hybrid.generate(turn, use_cache=False, **OPTIONS)
    assert torch.equal(hybrid.generate(turn, past_key_values=cache, **OPTIONS), expected)


def test_a_cache_that_cannot_go_back_is_refused_before_anything_is_computed():
    hybrid, x = tiny_hybrid(), repetitive()
    for options, reason in (
        ({"cache_implementation": "static"}, "max_length is 89: allowed is None"),
        ({"cache_implementation": "quantized"}, "full_bits is 8: allowed is None"),
        ({"past_key_values": LongGenCache(hybrid.config, max_length=300)}, "max_length is 300: allowed is None"),
    ):
        with pytest.raises(ValueError, match=rf"cannot be cropped: {reason}.* use LongGenCache\(config\)"):
            hybrid.generate(x, prompt_lookup_num_tokens=5, **options, **OPTIONS)


def test_a_draft_that_fails_leaves_the_model_whole(monkeypatch):
    hybrid, x = tiny_hybrid(), repetitive()
    for early in (0, 6):
        with pytest.raises(ConfigError, match=f"assistant_early_exit is {early}: allowed are 1 to 5 layers"):
            hybrid.generate(x, assistant_early_exit=early, **OPTIONS)
    monkeypatch.setattr(LongGenCache, "crop", lambda *_: 1 / 0)  # as memory may run out
    with pytest.raises(ZeroDivisionError):
        hybrid.generate(x, assistant_early_exit=2, **OPTIONS)
    assert hybrid.config.num_hidden_layers == 6


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_generation_after_padding_on_the_right_is_refused(options):
    hybrid, x = tiny_hybrid(), tokens(20)
    mask = torch.ones_like(x)
    mask[1, 15:] = 0
    with pytest.raises(ValueError, match=r"attention_mask ends in 0 in rows .*padding_side = 'left'"):
        hybrid.generate(x, attention_mask=mask, max_new_tokens=3, **options)


def test_attention_weights_are_refused_everywhere():
    hybrid, x = tiny_hybrid(), tokens(20)
    for call in (hybrid, hybrid.model, hybrid.generate):
        with torch.no_grad(), pytest.raises(ValueError, match="output_attentions is True: allowed is False"):
            call(x, output_attentions=True)
    with pytest.raises(ValueError, match="output_attentions"):
        hybrid.config.output_attentions = True


def test_a_fixed_cache_that_is_too_small_is_refused_at_once():
    hybrid, x = tiny_hybrid(), tokens(20)
    mask = torch.ones_like(x)
    mask[:, :4] = 0
    options = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    with pytest.raises(ConfigError, match="max_length 28: prompt and new tokens are up to 29"):
        hybrid.generate(x, past_key_values=LongGenCache(hybrid.config, max_length=28), **options)
    for length, given in ((29, {}), (25, {"attention_mask": mask})):
        cache = LongGenCache(hybrid.config, max_length=length)
        new = hybrid.generate(x, past_key_values=cache, **given, **options)
        assert torch.equal(new, hybrid.generate(x, **given, **options))
