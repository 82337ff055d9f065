"""Numbers of a config: which are refused, and that those of published models are not."""

import math

import pytest

from longgen.errors import ConfigError
from longgen.modeling.ranges import check_ranges
from tests.modeling.models import FAMILIES, tiny_base

NAN, INF = math.nan, math.inf
LLAMA = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": None,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "pad_token_id": None,
    "eos_token_id": [2, 127],
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {"type": "longrope", "short_factor": [1] * 8, "long_factor": [1.5] * 8}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rope_theta": 5e5, "rope_scaling": None},
        {"rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_parameters": YARN | {"mscale": 1.0, "attention_factor": 1, "truncate": False}},
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 8192}},
        {
            "attention_dropout": 0.1,
            "residual_dropout": 0,
            "sliding_window": None,
            "eos_token_id": 127,
            "a_number_we_do_not_know": -3.5,
        },
    ],
)
def test_values_of_published_models_are_allowed(change):
    check_ranges(LLAMA | change)


@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_of_every_family_are_allowed(family):
    check_ranges(tiny_base(family).config.to_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_theta": NAN}, "rope_theta is nan: allowed is a finite number"),
        ({"rope_theta": -1}, "rope_theta is -1: allowed is a finite number > 1"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0: allowed is a finite number > 1"),
        ({"rope_theta": "1e4"}, "rope_theta is '1e4': allowed is"),
        ({"rms_norm_eps": NAN}, "rms_norm_eps is nan"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0: allowed is a number > 0 and < 1"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps is -1e-06"),
        ({"initializer_range": -0.1}, "initializer_range is -0.1"),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1: allowed is a number 0..1"),
        ({"residual_dropout": 2}, "residual_dropout is 2: allowed is a number 0..1"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers has 2 entries: allowed is num_hidden_layers 6"),
        (
            {"no_rope_layers": [True] * 6},
            "no_rope_layers is [True, True, True, True, True, True]: allowed is a list with",
        ),
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0: allowed is a whole number >= 1 and <= 2^16"),
        ({"max_position_embeddings": 2**40 + 1}, "max_position_embeddings is 1099511627777: allowed is a whole number"),
        ({"someone": {"elses": [1.0, INF]}}, "someone.elses[1] is inf: allowed is a finite number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0: allowed is a whole number >= 1"),
        ({"num_attention_heads": 4.0}, "num_attention_heads is 4.0: allowed is a whole number >= 1"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3: allowed is a divisor of num_attention_heads 4"),
        ({"num_key_value_heads": True}, "num_key_value_heads is True: allowed is a whole number"),
        ({"head_dim": -16}, "head_dim is -16"),
        ({"vocab_size": "128"}, "vocab_size is '128'"),
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"pad_token_id": 128}, "pad_token_id is 128: allowed is null for none, or a token of the vocabulary, 0..127"),
        ({"pad_token_id": -1}, "pad_token_id is -1: allowed is null for none"),
        ({"eos_token_id": [2, 128]}, "eos_token_id is [2, 128]: allowed is"),
        ({"hidden_act": "swishy"}, "hidden_act is 'swishy': allowed is one of "),
        ({"hidden_act": ["silu"]}, "hidden_act is ['silu']: allowed is one of "),
        ({"rope_parameters": {"rope_type": "xyz"}}, "rope_parameters.rope_type is 'xyz': allowed is one of default, "),
        ({"rope_scaling": 2.0}, "rope_scaling is 2.0: allowed is a mapping"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling has no factor: rope_type 'linear' needs factor"),
        ({"rope_parameters": YARN | {"factor": 0.5}}, "rope_parameters.factor is 0.5: allowed is a finite number >= 1"),
        ({"rope_parameters": YARN | {"factor": NAN}}, "rope_parameters.factor is nan"),
        (
            {"rope_parameters": YARN | {"rope_theta": 0}},
            "rope_parameters.rope_theta is 0: allowed is a finite number >",
        ),
        (
            {"rope_parameters": YARN | {"beta_fast": 1}},
            "rope_parameters.beta_fast is 1: allowed is a number above beta",
        ),
        (
            {"rope_parameters": YARN | {"original_max_position_embeddings": 0}},
            "rope_parameters.original_max_position_embeddings is 0: allowed is a whole number >= 1",
        ),
        (
            {"rope_parameters": LLAMA3 | {"low_freq_factor": 4.0}},
            "rope_parameters.high_freq_factor is 4.0: allowed is a number above low_freq_factor, which is 4.0",
        ),
        ({"rope_scaling": LONGROPE}, "rope_scaling.rope_type is 'longrope', whose frequencies depend on the length of"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_parameters.rope_type is 'dynamic', whose"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5: allowed is a number > 0 and <= 1"),
    ],
)
def test_what_no_model_can_have_is_named(change, message):
    with pytest.raises(ConfigError) as error:
        check_ranges(LLAMA | change)
    assert str(error.value).startswith(message)
