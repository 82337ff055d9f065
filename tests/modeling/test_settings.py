"""Settings and sizes of a base's config: each is refused at conversion, or does in the hybrid what it does there."""

import dataclasses
import inspect
import json
import re
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from longgen.errors import ConfigError, LongGenError
from longgen.layout import parse_layout
from longgen.modeling import convert_checkpoint, longgen_config
from longgen.modeling.conversion.source import FolderSource
from longgen.modeling.convert import base_config
from longgen.modeling.ranges import RANGES
from longgen.modeling.settings import SETTINGS
from longgen.pattern import SparsePattern
from tests.modeling.models import tiny_base, tokens

PATTERN = SparsePattern(8, 1, 2, 4)
# Of every kind; some a setting may have, most it may not.
VALUES = [None, True, False, 0, 1, 3, 0.5, "", "float16", "regression", [], ["a"], [1], {}, {"a": 1}, {"0": "a"}]
CODE = ("attn_implementation", "experts_implementation")  # of the base's layers: a hybrid does not ask for it


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings") / "base"
    tiny_base(num_hidden_layers=2).save_pretrained(folder)
    return folder


def written(folder, change):
    """The config.json of ``folder`` with a change; the weights are shared with it."""
    changed = folder.parent / "changed"
    changed.mkdir(exist_ok=True)
    values = json.loads((folder / "config.json").read_text()) | change
    (changed / "config.json").write_text(json.dumps(values))
    if not (changed / "model.safetensors").exists():
        (changed / "model.safetensors").hardlink_to(folder / "model.safetensors")
    return changed


def convert(source, layout="all", **options):
    destination = source.parent / "hybrid"
    shutil.rmtree(destination, ignore_errors=True)
    convert_checkpoint(source, destination, layout, PATTERN, **options)
    return destination


def logits(folder):
    with torch.no_grad():
        output = AutoModelForCausalLM.from_pretrained(folder)(tokens(40))
    return output[0] if isinstance(output, tuple) else output.logits


def test_every_setting_that_transformers_reads_is_in_the_list():
    fields = {field.name for field in dataclasses.fields(PretrainedConfig)}
    made = inspect.getsource(PretrainedConfig.__post_init__)
    taken = set(re.findall(r'kwargs\.(?:pop|get)\(\s*"(\w+)"', made))
    assert {"output_attentions", "attn_implementation", "torch_dtype", "num_labels"} <= taken
    assert fields | taken <= SETTINGS.keys() | RANGES.keys() | {"rope_scaling"}  # which is checked as a whole


def accepted(folder) -> bool:
    """Whether a hybrid can be made of the config in ``folder``; an error names the file."""
    try:
        base_config(FolderSource(folder))
    except ConfigError as error:
        assert str(error).startswith(f"{folder}/config.json: ")
        assert "\n" not in str(error)
        return False
    return True


def test_a_setting_is_refused_or_does_in_the_hybrid_what_it_does_in_the_base(small):
    taken = {key: [value for value in VALUES if accepted(written(small, {key: value}))] for key in SETTINGS}
    assert not taken["longgen"] and taken["use_cache"] == [True, False] and taken["quantization_config"] == [None]
    assert taken["output_hidden_states"] == [None, True, False] and "float16" in taken["dtype"]
    # each value is met once, all settings changing together
    for index in range(max(map(len, taken.values()))):
        change = {key: values[index] for key, values in taken.items() if index < len(values)}
        hybrid = logits(convert(written(small, change)))
        base = logits(written(small, {key: value for key, value in change.items() if key not in (*CODE, "auto_map")}))
        assert torch.equal(hybrid, base), change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_causal": False}, "is_causal is False: allowed is true"),
        ({"return_dict": False}, "return_dict is False: allowed is true"),
        ({"use_return_dict": False}, "use_return_dict is False: allowed is none, since transformers 5 calls it return"),
        ({"torchscript": True}, "torchscript is True: allowed is false or none"),
        ({"output_attentions": True}, "output_attentions is True: allowed is false or none, since our attention never"),
        ({"quantization_config": {}}, "quantization_config is {}: allowed is none: convert the checkpoint with"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True: allowed is false or none, since a hybrid is a dec"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights is 'other.safetensors': allowed is none"),
        ({"attention_chunk_size": 8}, "attention_chunk_size is 8: allowed is none"),
        ({"dtype": "int8"}, "dtype is 'int8': allowed is null, or one of bfloat16"),
        ({"dtype": "sum"}, "dtype is 'sum': allowed is null, or one of bfloat16"),
        ({"validate": 5}, "validate is 5: allowed is no such key, which is the name of a part of transformers' Llama"),
        ({"attribute_map": {}}, "attribute_map is {}: allowed is no such key"),
        (
            {"layer_types": ["sliding_attention"] * 2},
            "layer_types is ['sliding_attention', 'sliding_attention']: allow",
        ),
        ({"num_labels": 10**9}, "num_labels is 1000000000: allowed is a whole number >= 0 and <= 2^16"),
    ],
)
def test_what_is_refused_is_named_and_nothing_written(change, message, small):
    source = written(small, change)
    with pytest.raises(ConfigError) as error:
        convert(source)
    assert str(error.value).startswith(f"{source}/config.json: {message}")
    assert not (source.parent / "hybrid").exists()


def test_a_setting_of_a_model_in_memory_is_refused_too(small):
    config = LlamaConfig(return_dict=False)
    with pytest.raises(ConfigError, match="return_dict is False"):
        longgen_config(config, parse_layout("all", 32), PATTERN)


def test_what_transformers_raises_for_the_hybrid_is_told_of_what_was_asked_for(small, monkeypatch):
    def fail(*_):
        raise IndexError("list index\nout of range")

    monkeypatch.setattr("longgen.modeling.convert.longgen_config", fail)
    for options, words in (({}, ""), ({"rope": "yarn", "max_length": 2048}, " with rope yarn and max_length 2048")):
        with pytest.raises(ConfigError) as error:
            convert(small, **options)
        reason = "(IndexError: list index out of range)"
        assert str(error.value) == f"{small}/config.json: transformers makes no model of it{words} {reason}"


# ---------------------------------------------------------------- sizes
SIZES = [key for key, range_ in RANGES.items() if "2^" in range_.allowed]


@pytest.mark.slow
@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("size", [2**16, 2**24, 10**7, 2**40, 10**30])
def test_no_size_is_too_much_for_the_check_itself(key, size, small):
    source = written(small, {key: size})
    try:
        convert(source, "heads:1/2")
    except LongGenError as error:
        assert str(error).startswith(str(source))
    else:
        assert size <= 2**40 and key not in ("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers")


def test_sizes_beyond_reason_and_layers_that_are_not_there(small):
    source = written(small, {"max_position_embeddings": 10**30})
    with pytest.raises(ConfigError, match=r"changed/config\.json: max_position_embeddings is 10+: allowed is a whole"):
        convert(source)
    with pytest.raises(ConfigError, match=r"max_length is 10+: allowed is a whole number >= 1 and <= 2\^40"):
        convert(small, max_length=10**30)
    source = written(small, {"num_hidden_layers": 2**16})
    with pytest.raises(
        ConfigError, match=r"changed/config\.json: num_hidden_layers is 65536: allowed is up to 2, as many as .*changed"
    ):
        convert(source)


def test_a_config_that_is_nested_too_deep_is_no_traceback(small):
    source = written(small, {})
    (source / "config.json").write_text("[" * 100_000)
    with pytest.raises(LongGenError, match=r"config\.json is not readable as JSON"):
        convert(source)


# ---------------------------------------------------------------- dropout
def test_dropout_of_attention_is_told_and_gone(small):
    source = written(small, {"attention_dropout": 0.1})
    destination = convert(source)
    assert json.loads((destination / "config.json").read_text())["attention_dropout"] == 0
    said = "- attention_dropout is 0 instead of 0.1, since our attention has none: nothing but training is changed.\n"
    assert said in (destination / "README.md").read_text()
    assert torch.equal(logits(destination), logits(source))
    model = AutoModelForCausalLM.from_pretrained(destination).train()
    model(tokens(40), labels=tokens(40)).loss.backward()
    assert "dropout" not in (convert(small) / "README.md").read_text()
