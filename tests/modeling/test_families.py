"""Further families, one test for each thing that must hold: the whole matrix is run on those of `models.FAMILIES`."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM

from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.errors import ConfigError
from longgen.evaluation.likelihood import token_nll
from longgen.layout import parse_layout
from longgen.modeling import BASE_FAMILIES, LongGenCache, convert_checkpoint, longgen_classes, longgen_config
from longgen.modeling.qualification import REASONS, check_qualifies
from longgen.shapes import ABSENT, FAMILIES, ModelShape
from longgen.training.batches import Batch
from longgen.training.parallel.processes import Processes
from longgen.training.parallel.training_module import TrainingModule
from tests.modeling import models
from tests.modeling.models import PATTERNS, tokens

MORE = sorted(set(FAMILIES) - set(models.FAMILIES))
SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# what their classes would choose for models of billions
OWN = {
    "glm4": {"head_dim": 16},
    "granite": {
        "attention_multiplier": 0.1,
        "embedding_multiplier": 6.0,
        "logits_scaling": 3.0,
        "residual_multiplier": 0.5,
    },
    "seed_oss": {"head_dim": 16, "attention_dropout": 0, "residual_dropout": 0},
}


def base_of(family: str):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **OWN.get(family, {}))
    return AutoModelForCausalLM.from_config(config).eval()


def hybrid_of(base, layout: str):
    config = longgen_config(base.config, parse_layout(layout, 4, 2), PATTERNS[1])
    hybrid = longgen_classes(base.config.model_type)[1](config)
    hybrid.load_state_dict(base.state_dict())
    return hybrid.eval()


def test_every_family_is_tested():
    assert BASE_FAMILIES == FAMILIES
    assert MORE == ["glm4", "granite", "olmo2", "phi3", "seed_oss", "smollm3"]


@pytest.mark.parametrize("family", MORE)
def test_all_full_is_the_base_model_to_the_bit_forward_and_backward(family):
    base, x = base_of(family), tokens(97)
    hybrid = hybrid_of(base, "all")
    for model in (base, hybrid):
        model.train()(x, labels=x, use_cache=False).loss.backward()
    for (name, ours), theirs in zip(hybrid.named_parameters(), base.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name
    with torch.no_grad():
        assert torch.equal(hybrid.eval()(x).logits, base.eval()(x).logits)
        padding = torch.cat([torch.zeros(2, 9, dtype=torch.long), torch.ones_like(x)], 1)
        padded = torch.cat([torch.full((2, 9), 5), x], 1)
        torch.testing.assert_close(hybrid(padded, attention_mask=padding).logits[:, 9:], base(x).logits)


@pytest.mark.parametrize("family", MORE)
def test_sparse_layers_see_what_the_dense_reference_sees_and_caches_and_padding_hold(family):
    base, x = base_of(family).double(), tokens(120)
    hybrid, reference = (hybrid_of(base, "middle:1/2").double() for _ in range(2))
    reference.set_attn_implementation("longgen_reference")
    for model in (hybrid, reference):
        model.train()(x, labels=x, use_cache=False).loss.backward()
    for (name, ours), dense in zip(hybrid.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, dense.grad, rtol=1e-9, atol=1e-9, msg=name)
    hybrid.eval(), reference.eval()
    with torch.no_grad():
        expected = reference(x).logits
        assert (expected - base(x).logits).abs().max() > 1e-4, "the pattern must hide something"
        cache = LongGenCache(hybrid.config)
        parts = [hybrid(part, past_key_values=cache).logits for part in x.split([50, 1, 1, 40, 28], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-9, atol=1e-9)
        for side in (0, 1):  # padding left, right
            rows = torch.cat([torch.full((2, 9), 5), x] if side == 0 else [x, torch.full((2, 9), 5)], 1)
            mask = torch.ones_like(rows)
            mask[:, slice(0, 9) if side == 0 else slice(120, 129)] = 0
            got = hybrid(rows, attention_mask=mask).logits[mask.bool()].view(expected.shape)
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    generated = [hybrid.generate(x, max_new_tokens=8, do_sample=False, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*generated)


@pytest.mark.parametrize("family", MORE)
def test_conversion(family, tmp_path):
    base = base_of(family)
    base.save_pretrained(tmp_path / "base")
    convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERNS[1], max_length=1024, rope_theta=5e5)
    hybrid = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert type(hybrid) is longgen_classes(family)[1]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(hybrid.parameters(), base.parameters(), strict=True))
    assert hybrid.config.rope_parameters["rope_theta"] == 5e5
    assert hybrid.config.to_dict().keys() >= base.config.to_dict().keys()
    with pytest.raises((KeyError, StrictDataclassError), match="import longgen"):  # Phi-3 has a check of its own
        type(base).from_pretrained(tmp_path / "new")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_planner_takes_for_absent_keys_is_what_the_config_class_takes(family, tmp_path):
    sizes = {key: value for key, value in SIZES.items() if not key.startswith("num_key") and "token" not in key}
    sizes["num_attention_heads"] = 32
    (tmp_path / "config.json").write_text(json.dumps(sizes | {"model_type": family}))
    shape, config = ModelShape.from_hf_config(tmp_path), AutoConfig.for_model(family, **sizes)
    assert shape.num_kv_heads == config.num_key_value_heads
    assert shape.head_dim == (getattr(config, "head_dim", None) or 2)
    assert shape.tie_word_embeddings == config.tie_word_embeddings
    assert set(ABSENT) <= set(FAMILIES)


@pytest.mark.parametrize("family", REASONS)
def test_families_that_do_not_qualify_are_refused_with_their_reason(family):
    with pytest.raises(ConfigError) as error:
        check_qualifies(AutoConfig.for_model(family).to_dict() | {"model_type": family})
    assert f"This one {REASONS[family]}. A family qualifies" in str(error.value)


@pytest.mark.parametrize("family", ["granite", "olmo2"])
def test_losses_are_those_of_the_models_own_logits(family):
    model, x = base_of(family), tokens(41)
    with torch.no_grad():
        scores = model(x[:, :-1]).logits.log_softmax(-1)
    expected = -scores.gather(2, x[:, 1:, None])[..., 0]
    torch.testing.assert_close(token_nll(model, x), expected)
    phase = PhaseSettings(40, 2, 1, 1.0, {"text": 1.0})
    module = TrainingModule(model, Processes(), TrainingSettings([phase], early_exit_layers=2), SetupSettings())
    ones = torch.ones(2, 40)
    losses = module(Batch(x[:, :-1], x[:, 1:], ones), ones.sum())
    torch.testing.assert_close(losses.loss, expected.mean())
    assert losses.objective > losses.loss


def test_the_layers_of_smollm3_without_positions_stay_without():
    base = base_of("smollm3")
    assert base.config.no_rope_layers == [1, 1, 1, 0]
    assert [layer.self_attn.use_rope for layer in hybrid_of(base, "middle:1/2").model.layers] == [1, 1, 1, 0]


def test_seed_oss_converts_as_it_is_published_with_dropout(tmp_path):
    config = AutoConfig.for_model("seed_oss", **SIZES, head_dim=16)
    assert (config.attention_dropout, config.residual_dropout) == (0.1, 0.1)
    base = AutoModelForCausalLM.from_config(config).eval()
    base.save_pretrained(tmp_path / "base")
    done = convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERNS[1])
    hybrid = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert (hybrid.config.attention_dropout, hybrid.config.residual_dropout) == (0, 0.1)
    assert done.card.lost_dropout is not None and done.card.lost_dropout in (tmp_path / "new" / "README.md").read_text()
    with torch.no_grad():
        assert torch.equal(hybrid(tokens(40)).logits, base(tokens(40)).logits)
    hybrid.train()(tokens(40), labels=tokens(40)).loss.backward()
    hybrid.config.attention_dropout = hybrid.model.layers[0].self_attn.attention_dropout = 0.1
    with pytest.raises(ValueError, match=r"attention dropout is 0\.1: longgen attention supports 0 only"):
        hybrid(tokens(40))
