"""The decoder is the hybrid: whatever head stands on it, and whoever calls it, attention is ours."""

import json

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DynamicCache,
    EncoderDecoderCache,
    StaticCache,
)
from transformers.utils import find_labels

from longgen.errors import ConfigError
from longgen.modeling import LongGenCache
from tests.modeling.models import FAMILIES, PATTERNS, tiny_base, tiny_hybrid, tokens


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folders = {}
    for family in FAMILIES:
        folders[family] = tmp_path_factory.mktemp(family)
        tiny_hybrid(family).save_pretrained(folders[family])
    return folders


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification])
def test_every_class_runs_the_hybrid(saved, family, auto):
    hybrid, model = tiny_hybrid(family), auto.from_pretrained(saved[family]).eval()
    x, mask = tokens(61), torch.ones(2, 61, dtype=torch.long)
    mask[1, :20] = 0
    want = hybrid(x, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    got = model(x, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(got[mask.bool()], want[mask.bool()])
    # and that of the base it is not
    other = tiny_base(family)(x, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    assert not torch.allclose(got[0], other[0], atol=1e-3)


def test_a_decoder_called_by_itself_pads_packs_and_caches():
    hybrid, x = tiny_hybrid(pattern=PATTERNS[-1]), tokens(50)
    alone = hybrid.model(x).last_hidden_state
    output = hybrid.model(x[:, :33], use_cache=True)
    assert isinstance(output.past_key_values, LongGenCache)
    rest = hybrid.model(x[:, 33:], past_key_values=output.past_key_values)[0]
    torch.testing.assert_close(torch.cat([output[0], rest], 1), alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hybrid.model(x, return_dict=False, use_cache=False)[0], alone)
    embedded = hybrid.get_input_embeddings()(x)
    torch.testing.assert_close(hybrid.model(inputs_embeds=embedded)[0], alone)
    for given in ({}, {"input_ids": x, "inputs_embeds": embedded}):
        with pytest.raises(ValueError, match="input_ids and inputs_embeds are both"):
            hybrid.model(**given)


def test_only_our_attention_runs_in_a_hybrid(saved):
    hybrid, x = tiny_hybrid(), tokens(20)
    allowed = "allowed are longgen, longgen_triton, longgen_flex, longgen_blocked, longgen_reference"
    for name in ("eager", "sdpa", "flex_attention", "flash_attention_2", "paged|sdpa"):
        with pytest.raises(ConfigError, match=allowed):
            hybrid.set_attn_implementation(name)
        with pytest.raises(ConfigError, match=allowed):
            hybrid.config._attn_implementation = name
        with pytest.raises(ConfigError, match=allowed):
            AutoModelForCausalLM.from_pretrained(saved["llama"], attn_implementation=name)
        with pytest.raises(ConfigError, match=allowed):
            AutoModelForCausalLM.from_config(hybrid.config, attn_implementation=name)
    hybrid.config._attn_implementation_internal = "sdpa"  # past every check
    with pytest.raises(ConfigError, match=allowed):
        hybrid(x)
    hybrid.config._attn_implementation = None  # the default
    hybrid.set_attn_implementation("longgen_reference")
    hybrid(x)
    with pytest.raises(ValueError, match="is_causal is False: longgen attention is causal"):
        hybrid(x, is_causal=False)
    hybrid.config.is_causal = False
    with pytest.raises(ValueError, match="is_causal is False: longgen attention is causal"):
        hybrid(x)


def test_a_cache_that_does_not_hold_just_the_tokens_is_refused():
    hybrid, base, x = tiny_hybrid(), tiny_base(), tokens(45)
    sliding = tiny_base("mistral", sliding_window=16).config
    for cache, name in (
        (StaticCache(config=base.config, max_cache_len=64), "StaticCache with layers of StaticLayer"),
        (DynamicCache(config=sliding), "DynamicCache with layers of DynamicSlidingWindowLayer"),
        (EncoderDecoderCache(DynamicCache(), DynamicCache()), "EncoderDecoderCache"),
        (((x, x),), "tuple"),
    ):
        with pytest.raises(ValueError, match=f"past_key_values is {name}: allowed are a LongGenCache"):
            hybrid(x, past_key_values=cache)
    for cache in (DynamicCache(), DynamicCache(config=base.config)):
        parts = [hybrid(part, past_key_values=cache).logits for part in x.split([30, 1, 14], dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), hybrid(x).logits, rtol=1e-4, atol=1e-5)


def test_a_cache_and_recomputed_layers_exclude_each_other():
    hybrid, x = tiny_hybrid().train(), tokens(30)
    hybrid.gradient_checkpointing_enable({"use_reentrant": False})
    mask = torch.ones_like(x)
    mask[0, :9] = 0
    output = hybrid(x, attention_mask=mask, use_cache=True)
    assert output.past_key_values is None
    want = tiny_hybrid().train()(x, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(output.logits[mask.bool()], want[mask.bool()])
    cache = LongGenCache(hybrid.config)
    hybrid.eval()(x, past_key_values=cache)
    with pytest.raises(ValueError, match="is given while training with gradient checkpointing"):
        hybrid.train()(x[:, :1], past_key_values=cache)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_an_argument_that_others_find(family):
    hybrid, x = tiny_hybrid(family), tokens(30)
    assert find_labels(type(hybrid)) == ["labels"]
    labels = x.clone()
    labels[:, :12] = -100
    logits = hybrid(x).logits[:, 11:-1]
    want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 12:].flatten())
    torch.testing.assert_close(hybrid(x, labels=labels).loss, want)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_survives_every_way_to_write_and_read_it(saved, family):
    config = tiny_hybrid(family).config
    kind = type(config)
    for again in (
        kind.from_json_file(saved[family] / "config.json"),
        kind(**json.loads(config.to_json_string())),
        kind(**config.to_dict()),
        kind.from_dict(config.to_diff_dict()),
        kind.from_pretrained(saved[family]),
    ):
        assert again.rope_parameters == config.rope_parameters
        assert again.longgen == config.longgen
        assert "rope_scaling" not in again.to_dict()


def test_generation_begins_with_embeddings():
    hybrid, x = tiny_hybrid(), tokens(40)
    embedded = hybrid.get_input_embeddings()(x)
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    assert torch.equal(hybrid.generate(inputs_embeds=embedded, **options), hybrid.generate(x, **options)[:, 40:])


def test_a_cache_of_another_model_is_refused():
    hybrid, x = tiny_hybrid(), tokens(30)
    for other in (tiny_hybrid(layout="all"), tiny_hybrid(pattern=PATTERNS[2]), tiny_hybrid(layout="heads:1/3")):
        with pytest.raises(ValueError, match="LongGenCache of a model with another layout or pattern"):
            hybrid(x, past_key_values=LongGenCache(other.config))
        with pytest.raises(ValueError, match="LongGenCache of a model with another layout or pattern"):
            hybrid.generate(x, past_key_values=LongGenCache(other.config), max_new_tokens=2)
    other = tiny_hybrid().config
    other.rope_parameters = other.rope_parameters | {"rope_theta": 5e5}
    with pytest.raises(ValueError, match="LongGenCache of a model with RoPE"):
        hybrid(x, past_key_values=LongGenCache(other))
    hybrid(x, past_key_values=LongGenCache(tiny_hybrid().config))
    hybrid.config.longgen = tiny_hybrid(layout="all").config.longgen  # too late: the layers know what they see
    with pytest.raises(ValueError, match="with the config as it was when the model was made"):
        hybrid(x)


def test_a_mask_tells_one_story():
    hybrid, x, mask = tiny_hybrid(), tokens(40), torch.ones(2, 40, dtype=torch.long)
    mask[0, :9] = 0
    cache = LongGenCache(hybrid.config)
    hybrid(x[:, :30], attention_mask=mask[:, :30], past_key_values=cache)
    other = torch.ones_like(mask)
    other[0, 10:19] = 0  # as many, but others
    with pytest.raises(ValueError, match="hides other tokens than it did"):
        hybrid(x[:, 30:], attention_mask=other, past_key_values=cache)
    cache.reorder_cache(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="hides other tokens than it did"):
        hybrid(x[:, 30:], attention_mask=mask, past_key_values=cache)
    hybrid(x[[1, 0], 30:], attention_mask=mask.flip(0), past_key_values=cache)
    with pytest.raises(ValueError, match="attention_mask is to be added to scores"):
        hybrid(x, attention_mask=(1.0 - mask) * -1e9)
    with pytest.raises(ValueError, match="attention_mask has zeros and cu_seq_lens_q is given"):
        hybrid(x[:1], attention_mask=mask[:1], cu_seq_lens_q=torch.tensor([0, 20, 40]))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3"])
def test_layers_compiled_one_by_one_see_padding_and_documents(layout):
    hybrid, x, mask = tiny_hybrid(layout=layout), tokens(45), torch.ones(2, 45, dtype=torch.long)
    mask[0, :9] = 0
    documents = {"position_ids": torch.cat([torch.arange(20), torch.arange(25)])[None].expand(2, -1)}
    expected = [hybrid(x, **where, use_cache=False).logits for where in ({"attention_mask": mask}, documents, {})]
    torch._dynamo.reset()
    for layer in hybrid.model.layers:
        layer.compile(backend="eager")
    got = [hybrid(x, **where, use_cache=False).logits for where in ({"attention_mask": mask}, documents, {})]
    got.append(hybrid(x, attention_mask=mask, past_key_values=DynamicCache()).logits)
    torch.testing.assert_close(got[0][mask.bool()], expected[0][mask.bool()], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[2], expected[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[3][mask.bool()], expected[0][mask.bool()], rtol=1e-4, atol=1e-5)


def test_heads_that_are_elsewhere_are_missed():
    hybrid = tiny_hybrid(layout="heads:1/3")
    attention, x = hybrid.model.layers[0].self_attn, tokens(20)
    for projection, heads in ((attention.q_proj, 2), (attention.k_proj, 1), (attention.v_proj, 1)):
        projection.weight = torch.nn.Parameter(projection.weight[: heads * attention.head_dim])
    for options in ({"use_cache": False}, {}):
        with pytest.raises(ValueError, match="a process has 2 of 4 heads: tensor parallelism is not supported"):
            hybrid(x, **options)
