"""RoPE methods: frequencies against closed formulas in float64, what a saved model keeps, and refusals."""

import math

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from longgen.errors import ConfigError
from longgen.layout import parse_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.modeling.rope import RopeBase, describe_rope, extended_rope
from longgen.pattern import SparsePattern
from tests.modeling.models import FAMILIES, tiny_base

# 128 is the head size of the large models; theta as Llama 2's, so that YaRN's ramp lies within the dimensions.
HEAD_DIM, THETA, BASE_LENGTH = 128, 10000.0, 512
LAYOUT, PATTERN = parse_layout("middle:1/3", 6), SparsePattern(8, 1, 2, 4)
SHAPE = {"head_dim": HEAD_DIM, "rope_parameters": {"rope_type": "default", "rope_theta": THETA}}


def hybrid(base_config, **request):
    config = longgen_config(base_config, LAYOUT, PATTERN, **request)
    return longgen_classes(base_config.model_type)[1](config)


def frequencies(model) -> tuple[np.ndarray, float]:
    rotary = model.model.rotary_emb
    return rotary.inv_freq.double().numpy(), rotary.attention_scaling


def default(theta: float = THETA, dim: int = HEAD_DIM) -> np.ndarray:
    return theta ** -(2 * np.arange(dim // 2, dtype=np.float64) / dim)


def yarn(theta: float, dim: int, length: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Equations of section 3.2 of arXiv 2309.00071; and where they decide alone, whatever the form of the ramp."""
    frequency = default(theta, dim)
    turns = length * frequency / (2 * math.pi)
    # the pair that turns `count` times, as a real number: the ramp is linear in it, and its ends are whole (our note)
    pair = {count: dim / 2 * math.log(length / (count * 2 * math.pi)) / math.log(theta) for count in (32, 1)}
    low, high = math.floor(pair[32]), math.ceil(pair[1])
    kept = 1 - np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    return kept * frequency + (1 - kept) * frequency / factor, (turns >= 32) * 1 - (turns < 1) * 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("request_", "expected", "kind"),
    [
        ({}, default(), "default"),
        ({"max_length": 4096}, default(), "default"),
        ({"rope_theta": 5e6}, default(5e6), "default"),
        ({"rope": "abf", "rope_theta": 5e6, "max_length": 4096}, default(5e6), "default"),
        ({"rope": "linear", "max_length": 4096}, default() / 8, "linear"),
        ({"rope": "linear", "max_length": 700}, default() / (700 / 512), "linear"),
        ({"rope": "ntk", "max_length": 4096}, default(THETA * 8 ** (128 / 126)), "default"),
        ({"rope": "yarn", "max_length": 4096}, yarn(THETA, HEAD_DIM, BASE_LENGTH, 8)[0], "yarn"),
        ({"rope": "yarn", "max_length": 16384}, yarn(THETA, HEAD_DIM, BASE_LENGTH, 32)[0], "yarn"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_frequencies_follow_the_formula_and_survive_saving(family, request_, expected, kind, tmp_path):
    model = hybrid(tiny_base(family, **SHAPE).config, **request_)
    model.save_pretrained(tmp_path)
    factor = request_.get("max_length", BASE_LENGTH) / BASE_LENGTH
    scaling = 0.1 * math.log(factor) + 1 if kind == "yarn" else 1.0
    for each in (model, AutoModelForCausalLM.from_pretrained(tmp_path)):
        found, found_scaling = frequencies(each)
        np.testing.assert_allclose(found, expected, rtol=2e-6)
        assert found_scaling == pytest.approx(scaling)
        assert each.config.rope_parameters["rope_type"] == kind
        assert each.config.max_position_embeddings == request_.get("max_length", BASE_LENGTH)


def test_ntk_interpolates_the_lowest_frequency_and_keeps_the_highest():
    found, _ = frequencies(hybrid(tiny_base(**SHAPE).config, rope="ntk", max_length=4096))
    np.testing.assert_allclose([found[0], found[-1]], [1.0, default()[-1] / 8], rtol=1e-5)


@pytest.mark.parametrize("length", [512, 4096])
def test_yarn_keeps_fast_pairs_and_interpolates_slow_ones_as_the_paper_says(length):
    base = tiny_base(**SHAPE, max_position_embeddings=length).config
    found, _ = frequencies(hybrid(base, rope="yarn", max_length=16 * length))
    sides = yarn(THETA, HEAD_DIM, length, 16)[1]
    assert (sides == 1).sum() > 3 and (sides == -1).sum() > 3 and (sides == 0).sum() > 3
    np.testing.assert_allclose(found[sides == 1], default()[sides == 1], rtol=1e-6)
    np.testing.assert_allclose(found[sides == -1], default()[sides == -1] / 16, rtol=1e-6)
    between = found[sides == 0] / default()[sides == 0]
    assert (between <= 1).all() and (between >= 1 / 16).all() and (np.diff(between) < 0).all()


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


def test_a_scaling_of_the_base_model_is_kept():
    base = tiny_base(rope_parameters=dict(LLAMA3))
    model = hybrid(base.config, max_length=4096)
    np.testing.assert_array_equal(frequencies(model)[0], frequencies(base)[0])
    assert model.config.rope_parameters == LLAMA3


DEFAULT = {"rope_type": "default", "rope_theta": THETA}


@pytest.mark.parametrize(
    ("parameters", "request_", "message"),
    [
        (DEFAULT, ("pi", None, 4096), r"rope is 'pi': allowed are abf, linear, ntk, yarn"),
        (DEFAULT, ("abf", None, 4096), r"rope_theta is None with rope 'abf': allowed is a number > 1"),
        (DEFAULT, ("abf", 1.0, None), r"rope_theta is 1\.0 with rope 'abf': allowed is a number > 1"),
        (DEFAULT, (None, math.inf, None), r"rope_theta is inf with rope 'abf': allowed is a number > 1"),
        (DEFAULT, ("linear", None, None), r"max_length is None with rope 'linear': allowed is a whole number >= 512"),
        (DEFAULT, ("yarn", None, 511), r"max_length is 511 with rope 'yarn': allowed is a whole number >= 512"),
        (DEFAULT, ("ntk", 5e6, 4096), r"rope_theta is 5000000\.0 with rope 'ntk'.*: allowed is none, or rope 'abf'"),
        (DEFAULT, ("linear", 5e6, 4096), r"rope_theta is 5000000\.0 with rope 'linear'"),
        (DEFAULT, (None, None, 0), r"max_length is 0: allowed is a whole number >= 1"),
        (LLAMA3, (None, 5e6, None), r"rope is 'abf' for a base model with rope_type 'llama3': allowed is no --rope"),
        (LLAMA3, ("yarn", None, 4096), r"rope is 'yarn' for a base model with rope_type 'llama3': allowed is no"),
    ],
)
def test_contradictions_are_refused(parameters, request_, message):
    with pytest.raises(ConfigError, match=message):
        extended_rope(RopeBase(dict(parameters), 512, HEAD_DIM), *request_)


def test_a_partly_rotated_head_has_its_own_exponent():
    base = RopeBase(DEFAULT | {"partial_rotary_factor": 0.5}, 512, HEAD_DIM)
    found = extended_rope(base, "ntk", None, 4096)
    assert found["rope_theta"] == pytest.approx(THETA * 8 ** (64 / 62))
    assert found["partial_rotary_factor"] == 0.5


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (DEFAULT, "base 10,000"),
        (
            DEFAULT | {"rope_type": "linear", "factor": 8.0},
            "base 10,000, positions divided by 8 (linear interpolation)",
        ),
        (DEFAULT | {"rope_type": "yarn", "factor": 1.5}, "base 10,000, yarn with factor 1.5"),
    ],
)
def test_words_for_the_card(parameters, words):
    assert describe_rope(parameters) == words
