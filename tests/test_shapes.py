"""Model shapes: published parameter counts, and config.json files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longgen.config import ModelSettings
from longgen.errors import ConfigError
from longgen.shapes import FAMILIES, MODEL_SHAPES, ModelShape, model_shape

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "tie_word_embeddings": True,
}


def write(folder: Path, values: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("name", "published"),  # "parameters" on the repository's Hugging Face page (safetensors metadata)
    [
        ("llama2-7b", 6_738_415_616),
        ("llama2-13b", 13_015_864_320),
        ("llama2-70b", 68_976_648_192),
        ("llama3-8b", 8_030_261_248),
        ("mistral-7b", 7_241_732_096),
        ("qwen3-8b", 8_190_735_360 - 36 * 2 * 128),  # less the norms of q and k, which are not counted
    ],
)
def test_parameters_are_the_published_ones(name: str, published: int) -> None:
    assert model_shape(name).parameters == published


def test_every_known_shape_is_tested_above_and_named_by_its_key() -> None:
    assert list(MODEL_SHAPES) == ["llama2-7b", "llama2-13b", "llama2-70b", "llama3-8b", "mistral-7b", "qwen3-8b"]
    assert all(shape.name == name for name, shape in MODEL_SHAPES.items())


def test_config_json(tmp_path: Path) -> None:
    path = write(tmp_path / "small", LLAMA)
    expected = ModelShape("small", 3, 64, 96, 8, 2, 8, 100, tie_word_embeddings=True)
    assert ModelShape.from_hf_config(path) == expected
    assert ModelShape.from_hf_config(path.parent) == expected
    assert model_shape(str(path)) == expected
    assert model_shape(str(path.parent)) == expected


def test_config_json_without_the_optional_sizes(tmp_path: Path) -> None:
    values = LLAMA | {"num_key_value_heads": None, "head_dim": None}
    del values["tie_word_embeddings"]
    shape = ModelShape.from_hf_config(write(tmp_path, values))
    assert (shape.num_kv_heads, shape.head_dim, shape.tie_word_embeddings) == (8, 8, False)


def test_head_dim_of_its_own(tmp_path: Path) -> None:
    shape = ModelShape.from_hf_config(write(tmp_path, LLAMA | {"model_type": "qwen3", "head_dim": 128}))
    assert shape.head_dim == 128
    assert shape.layer_weights == 64 * 128 * (8 + 2 + 2 + 8) + 3 * 64 * 96


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (LLAMA | {"model_type": "gpt2"}, "model_type is 'gpt2': allowed are llama, mistral, qwen2, qwen3"),
        ({}, "model_type is None: allowed are"),
        (LLAMA | {"hidden_size": "64"}, "hidden_size is '64': allowed is a whole number >= 1"),
        (LLAMA | {"vocab_size": None}, "vocab_size is None: allowed is a whole number >= 1"),
        (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers is 0: allowed is a whole number >= 1"),
        (LLAMA | {"num_key_value_heads": 3}, "num_kv_heads is 3: allowed is a divisor of num_heads 8"),
        ([1], "not a mapping: allowed is"),
        ("{", "not JSON"),
    ],
)
def test_unusable_config_json_is_refused(tmp_path: Path, values: Any, message: str) -> None:
    path = write(tmp_path, values)
    with pytest.raises(ConfigError) as error:
        ModelShape.from_hf_config(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_folder_without_config_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: No such file .*allowed is a model's config\.json"):
        model_shape(str(tmp_path))


def test_unknown_model_names_what_is_known() -> None:
    with pytest.raises(ConfigError) as error:
        model_shape("llama2-7B")
    assert str(error.value).startswith(f"model is 'llama2-7B': allowed are {', '.join(MODEL_SHAPES)}, or the path")


def test_from_settings() -> None:
    settings = ModelSettings(64, 96, 3, 8, 2, tie_word_embeddings=True)
    assert ModelShape.from_settings("small", settings) == ModelShape("small", 3, 64, 96, 8, 2, 8, 260, True)


@pytest.mark.parametrize("family", FAMILIES)
def test_converted_models_have_the_shape_of_their_base(tmp_path: Path, family: str) -> None:
    import torch
    from transformers import AutoConfig

    from longgen.layout import make_layout
    from longgen.modeling import longgen_classes, longgen_config
    from longgen.pattern import SparsePattern

    sizes = {key: value for key, value in LLAMA.items() if key != "model_type"}
    own = {"head_dim": 8, "sliding_window": None, "attention_dropout": 0, "attention_bias": False}
    own |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    base = AutoConfig.for_model(family, **sizes, **own)
    hybrid = longgen_config(base, make_layout(3, 1), SparsePattern())
    hybrid.save_pretrained(tmp_path)
    shape = ModelShape.from_hf_config(tmp_path)
    assert shape == ModelShape(tmp_path.name, 3, 64, 96, 8, 2, 8, 100, tie_word_embeddings=True)
    with torch.device("meta"):
        model = longgen_classes(family)[1](hybrid)
    extras = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.endswith(
            ("bias", "q_norm.weight", "k_norm.weight", "self_attn_layernorm.weight", "mlp_layernorm.weight")
        )
    )
    assert model.num_parameters() == shape.parameters + extras
