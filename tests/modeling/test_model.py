"""The hybrid model: exactness, cache, generation, what is refused."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from longgen.errors import ConfigError
from longgen.layout import parse_layout
from longgen.modeling import LongGenCache, hybrid_of, longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from tests.modeling.models import FAMILIES, LAYOUTS, PATTERNS, tiny_base, tiny_hybrid, tokens

# token by token from the first one on, and after a prompt or a chunk: beyond every window and stride of PATTERNS
CHUNKS = [[120], [*[1] * 45, 40, *[1] * 35], [32, 32, 32, 24], [7, 40, 1, 1, 30, 41]]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_full_layout_equals_the_base_model_to_the_bit(family):
    x = tokens(97)
    with torch.no_grad():
        assert torch.equal(tiny_base(family)(x).logits, tiny_hybrid(family, "all")(x).logits)


CASES = [
    *(("llama", layout, pattern) for layout in LAYOUTS for pattern in PATTERNS),
    *((family, "heads:1/3", PATTERNS[-1]) for family in list(FAMILIES)[1:]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "layout", "pattern"), CASES, ids=str)
def test_one_shot_equals_chunked_equals_token_by_token_equals_the_dense_reference(family, layout, pattern):
    x = tokens(120)
    hybrid = tiny_hybrid(family, layout, pattern).double()
    reference = tiny_hybrid(family, layout, pattern).double()
    reference.set_attn_implementation("longgen_reference")
    base = tiny_base(family).double()
    with torch.no_grad():
        expected = reference(x).logits
        assert (expected - base(x).logits).abs().max() > 1e-4, "the pattern must hide something"
        for sizes in CHUNKS:
            cache = LongGenCache(hybrid.config)
            parts = [
                hybrid(part, past_key_values=cache, use_cache=True).logits for part in torch.split(x, sizes, dim=1)
            ]
            torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-9, atol=1e-9)
            assert cache.get_seq_length() == 120


@pytest.mark.parametrize("pattern", PATTERNS[1:2] + PATTERNS[-1:], ids=str)
def test_a_head_level_hybrid_sees_per_head_what_its_layout_says(pattern):
    # against Hugging Face's own attention with a dense mask per query head, built from the pattern alone
    hybrid, base, x = tiny_hybrid("llama", "heads:1/3", pattern).double(), tiny_base().double(), tokens(120)
    layout, position = hybrid_of(hybrid.config).layout, torch.arange(120)
    for index, layer in enumerate(base.model.layers):
        heads = [
            position[None] <= position[:, None]
            if full
            else pattern.allowed(position[:, None], position[None], head * pattern.stride // 2 * pattern.staggered)
            for head, full in enumerate(layout.full_heads(index, 2))
        ]
        mask = torch.stack(heads).repeat_interleave(2, 0)[None]
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs, mask=mask: (args, kwargs | {"attention_mask": mask}), with_kwargs=True
        )
    with torch.no_grad():
        torch.testing.assert_close(hybrid(x).logits, base(x).logits, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_generate_greedy_chunked_sampled_and_beams_equal_generation_without_a_cache(family):
    hybrid, x = tiny_hybrid(family), tokens(61)
    options = {"max_new_tokens": 40, "do_sample": False, "eos_token_id": None}
    output = hybrid.generate(x, return_dict_in_generate=True, **options)
    assert isinstance(output.past_key_values, LongGenCache)
    uncached = hybrid.generate(x, use_cache=False, **options)
    assert torch.equal(output.sequences, uncached)
    assert torch.equal(hybrid.generate(x, prefill_chunk_size=16, **options), uncached)
    sampled = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        sampled.append(hybrid.generate(x, use_cache=use_cache, **options | {"do_sample": True}))
    assert torch.equal(*sampled)
    assert not torch.equal(sampled[0], uncached)
    beams = hybrid.generate(x, num_beams=3, **options)
    assert torch.equal(beams, hybrid.generate(x, num_beams=3, use_cache=False, **options))


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("pattern", PATTERNS[1:2] + PATTERNS[-1:], ids=str)
def test_gradients_with_activation_checkpointing_equal_those_without_and_the_dense_reference(layout, pattern):
    plain, checkpointed, reference = (tiny_hybrid(layout=layout, pattern=pattern).train() for _ in range(3))
    checkpointed.gradient_checkpointing_enable()
    reference.set_attn_implementation("longgen_reference")
    x = tokens(120)
    for model in (plain, checkpointed, reference):
        model(x, labels=x, use_cache=False).loss.backward()
    triples = zip(plain.named_parameters(), checkpointed.parameters(), reference.parameters(), strict=True)
    for (name, parameter), same, dense in triples:
        assert torch.equal(parameter.grad, same.grad), name
        torch.testing.assert_close(parameter.grad, dense.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load_round_trip(family, tmp_path):
    hybrid = tiny_hybrid(family)
    hybrid.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(hybrid)
    assert loaded.config.longgen == hybrid.config.longgen
    assert loaded.config._attn_implementation == "longgen"
    x = tokens(97)
    with torch.no_grad():
        assert torch.equal(loaded(x).logits, hybrid(x).logits)


@pytest.mark.slow
def test_a_hybrid_without_longgen_installed_fails_loudly(tmp_path):
    tiny_hybrid().save_pretrained(tmp_path)
    code = f"from transformers import AutoModelForCausalLM as A; A.from_pretrained({str(tmp_path)!r})"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode != 0
    assert "longgen_llama" in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("first", ["longgen", "transformers"])
def test_auto_classes_know_us_in_either_order_of_import(first, tmp_path):
    tiny_hybrid().save_pretrained(tmp_path)
    second = {"longgen": "transformers", "transformers": "longgen"}[first]
    code = (
        f"import {first}, {second}; from transformers import AutoModelForCausalLM as A;"
        f"print(type(A.from_pretrained({str(tmp_path)!r})).__name__)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.stdout.strip() == "LongGenLlamaForCausalLM", outcome.stderr


def test_what_does_not_qualify_is_refused():
    pattern, layout = SparsePattern(8, 1, 2), parse_layout("middle:1/3", 6)
    config = tiny_base("mistral", sliding_window=64).config
    with pytest.raises(ConfigError, match="sliding_window is 64"):
        longgen_config(config, layout, pattern)
    with pytest.raises(ConfigError, match="layout has 4 layers: the model has 6"):
        longgen_config(tiny_base().config, parse_layout("middle:1/2", 4), pattern)
    config = tiny_base().config
    config.model_type = "gpt2"
    with pytest.raises(ConfigError, match="model_type is 'gpt2': allowed are llama"):
        longgen_config(config, layout, pattern)
    config = tiny_hybrid().config
    config.longgen = None
    with pytest.raises(ConfigError, match=r"config\.longgen is None"):
        longgen_classes("llama")[1](config)
    config.longgen = {"layout": [["full"]] * 6, "pattern": pattern.to_dict()}
    with pytest.raises(ConfigError, match=r"layout\[0\] has 1 KV heads: the model has 2"):
        longgen_classes("llama")[1](config)
