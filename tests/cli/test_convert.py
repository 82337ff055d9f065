"""`longgen convert`: its options, what it prints, and the configuration of an experiment as its request."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.config import load_experiment
from longgen.errors import ArtifactError, ConfigError
from longgen.pattern import SparsePattern
from tests.experiments import experiment_file, tiny_settings
from tests.modeling.models import tiny_base


def longgen(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception:
        raise result.exception
    return result.stdout


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


@pytest.fixture
def base(tmp_path):
    tiny_base(max_position_embeddings=64).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


# ---------------------------------------------------------------- options
def test_defaults_keep_the_base_models_rope_and_dtype(base, tmp_path):
    longgen("convert", base, tmp_path / "new")
    config = config_of(tmp_path / "new")
    assert config["longgen"]["layout"] == ["sparse", "sparse", "full", "full", "sparse", "sparse"]
    assert config["longgen"]["pattern"] == SparsePattern().to_dict()
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert (config["max_position_embeddings"], config["dtype"]) == (64, "float32")


def test_every_option_reaches_the_model(base, tmp_path):
    options = (
        "--layout ends:1/3 --pattern stride --block-size 8 --sink-blocks 0 --local-blocks 2 --stride 4 --staggered "
        "--rope linear --max-length 256 --dtype bfloat16"
    )
    longgen("convert", base, tmp_path / "new", *options.split())
    config = config_of(tmp_path / "new")
    assert config["longgen"]["layout"] == ["full", "sparse", "sparse", "sparse", "sparse", "full"]
    assert config["longgen"]["pattern"] == SparsePattern(8, 0, 2, 4, staggered=True).to_dict()
    assert config["rope_parameters"] == {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    assert (config["max_position_embeddings"], config["dtype"]) == (256, "bfloat16")


def test_dropout_that_is_lost_is_told(base, tmp_path):
    assert "attention_dropout" not in longgen("convert", base, tmp_path / "new")
    (base / "config.json").write_text(json.dumps(config_of(base) | {"attention_dropout": 0.1}))
    said = longgen("convert", base, tmp_path / "other")
    assert "  attention_dropout is 0 instead of 0.1, since our attention has none: nothing but training is" in said


def test_stride_alone_has_a_default(base, tmp_path):
    longgen("convert", base, tmp_path / "new", "--pattern", "stride", "--rope-theta", "5e6")
    config = config_of(tmp_path / "new")
    assert config["longgen"]["pattern"]["stride"] == 16
    assert config["rope_parameters"]["rope_theta"] == 5e6


def test_plan_knows_staggered_heads():
    common = ("plan", "--model", "llama3-8b", "--pattern", "stride", "--length", "5000", "--json")
    plain, staggered = (json.loads(longgen(*common, *extra)) for extra in ((), ("--staggered",)))
    assert (plain["pattern"]["staggered"], staggered["pattern"]["staggered"]) == (False, True)
    assert plain["kv_bytes"] != staggered["kv_bytes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--pattern window", "--pattern is 'window': allowed are sink, stride"),
        ("--stride 16", "--stride is 16 with --pattern sink: allowed is 0 with sink"),
        ("--pattern stride --stride 0", "--stride is 0 with --pattern stride: allowed is 0 with sink, >= 2"),
        ("--staggered", "--staggered is true: allowed is false where stride is 0"),
        ("--rope abf", "rope_theta is None with rope 'abf': allowed is a number > 1"),
        ("--rope yarn --max-length 32", "--max-length is 32 with rope 'yarn': allowed is a whole number >= 64"),
        ("--layout diagonal:1/3", "placement is 'diagonal': allowed are middle, ends"),
        ("--variant full", "--config and --variant belong together"),
        (
            "--config config/mini.yaml --variant full --stride 4 --rope ntk",
            "--stride, --rope given with --config: allowed is one",
        ),
    ],
)
def test_bad_options_are_refused(options, message, base, tmp_path):
    with pytest.raises(ConfigError) as error:
        longgen("convert", base, tmp_path / "new", *options.split())
    assert str(error.value).startswith(message)
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- what it prints
def test_summary_and_second_call(base, tmp_path):
    command = ("convert", base, tmp_path / "new", "--block-size", 8, "--local-blocks", 2, "--max-length", 1024)
    first = longgen(*command)
    assert f"{tmp_path / 'new'}: hybrid of base" in first
    assert "full attention in 2 of 6 layers" in first
    # 2 layers x 1,024 tokens and 4 x (8 of the sink + 8 of the window), keys and values of 2 heads of 16, in float32
    assert "KV cache at 1,024 tokens: 528.0 KiB instead of 1.5 MiB (-65.6 %)" in first
    made = (tmp_path / "new" / "model.safetensors").stat()
    second = longgen(*command)
    assert f"{tmp_path / 'new'}: nothing to do, it is the result of the same conversion of base" in second
    assert (tmp_path / "new" / "model.safetensors").stat() == made
    with pytest.raises(ArtifactError, match="give --overwrite to replace it"):
        longgen(*command, "--layout", "all")
    assert "hybrid of base" in longgen(*command, "--layout", "all", "--overwrite")
    assert (tmp_path / "new" / "model.safetensors").stat() != made


@pytest.mark.parametrize(
    ("options", "why"),
    [("", "the pattern leaves out no token of so few"), ("--layout all", "all layers are full")],
)
def test_where_no_cache_is_saved_the_summary_says_so(options, why, base, tmp_path):
    said = longgen("convert", base, tmp_path / "new", *options.split())
    assert f"  KV cache at 64 tokens: 96.0 KiB, as with full attention: {why}\n" in said


def test_help_has_every_option_in_its_group():
    text = longgen("convert", "--help")
    groups = ("Pattern of the sparse layers", "Positions and length", "Source and weights", "From an experiment")
    assert [text.index(group) for group in groups] == sorted(text.index(group) for group in groups)
    options = "layout overwrite pattern block-size sink-blocks local-blocks stride staggered rope rope-theta max-length"
    options += " drop-sliding-window revision dtype skip-finite-check config variant"
    assert all(f"--{option}" in text for option in options.split())


# ---------------------------------------------------------------- an experiment as the request
@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ({}, {"rope_type": "default", "rope_theta": 40000.0}),
        ({"rope": "linear", "rope_theta": None}, {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}),
        ({"rope": "ntk", "rope_theta": None}, {"rope_type": "default", "rope_theta": 10000.0 * 4 ** (16 / 14)}),
        (
            {"rope": "yarn", "rope_theta": None},
            {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        ),
    ],
)
def test_an_experiment_says_it_all(extension, expected, base, tmp_path):
    settings = tiny_settings()
    changed = settings["extension"] | extension
    settings["extension"] = {key: value for key, value in changed.items() if value is not None}
    experiment = experiment_file(tmp_path, settings)
    longgen("convert", base, tmp_path / "new", "--config", experiment, "--variant", "ends")
    config = config_of(tmp_path / "new")
    assert config["longgen"]["pattern"] == SparsePattern(8, 1, 2, 4).to_dict()
    assert config["longgen"]["layout"] == ["full", "sparse", "sparse", "sparse", "sparse", "full"]
    assert config["max_position_embeddings"] == 256
    assert config["rope_parameters"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("extension", "message"),
    [
        ({"rope": "pi"}, "extension.rope is 'pi': allowed is one of 'abf', 'linear', 'ntk', 'yarn'"),
        ({"rope": "yarn"}, "extension.rope_theta is 40000.0: allowed is none with rope yarn"),
        ({"rope_theta": 1}, "extension.rope_theta is 1.0: allowed is a number > 1"),
    ],
)
def test_an_experiment_cannot_contradict_itself(extension, message, tmp_path):
    settings = tiny_settings()
    settings["extension"] |= extension
    with pytest.raises(ConfigError) as error:
        load_experiment(experiment_file(tmp_path, settings))
    assert message in str(error.value)
