"""The random weights that a base model begins with."""

from dataclasses import replace

import pytest
import torch

from longgen.config import ModelSettings
from longgen.errors import ConfigError
from longgen.training.base import base_model

SETTINGS = ModelSettings(64, 96, 3, 2, 2, initializer_range=0.1)
RESIDUAL = ("o_proj.weight", "down_proj.weight")


def weights(settings: ModelSettings) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(base_model(settings, 64).state_dict())


def test_matrices_that_add_to_the_residual_stream_have_a_deviation_of_their_own():
    plain, other = weights(SETTINGS), weights(replace(SETTINGS, residual_initializer_range=0.02))
    for name, weight in other.items():
        if name.endswith(RESIDUAL):
            assert weight.std() == pytest.approx(0.02, rel=0.1)
            assert plain[name].std() == pytest.approx(0.1, rel=0.1)
        else:
            assert torch.equal(weight, plain[name])


def test_with_a_deviation_of_zero_layers_begin_as_nothing():
    torch.manual_seed(0)
    model = base_model(replace(SETTINGS, residual_initializer_range=0.0), 64)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        alone = model.lm_head(model.model.norm(model.model.embed_tokens(tokens)))
        assert torch.equal(model(tokens).logits, alone)
    model(tokens, labels=tokens).loss.backward()
    for layer in model.model.layers:  # and yet they can learn
        assert layer.self_attn.o_proj.weight.grad.abs().max() > 0
        assert layer.mlp.down_proj.weight.grad.abs().max() > 0


def test_a_negative_deviation_is_refused():
    with pytest.raises(ConfigError, match=r"residual_initializer_range is -0\.1: allowed is a number >= 0, or null"):
        replace(SETTINGS, residual_initializer_range=-0.1)
