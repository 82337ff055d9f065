"""Conversion as a whole: what is written, where it may come from, what is refused, and what a second call does."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.errors import ArtifactError, ConfigError
from longgen.hybrid import Hybrid
from longgen.layout import parse_layout
from longgen.model import Model
from longgen.modeling import convert_checkpoint
from longgen.modeling.conversion.card import draw_layout, pattern_in_words
from longgen.modeling.conversion.source import companion_names
from longgen.pattern import SparsePattern
from longgen.shapes import ModelShape
from longgen.units import binary_size
from tests.modeling.models import FAMILIES, tiny_base, tokens

PATTERN = SparsePattern(8, 1, 2, 4)


def convert(source, destination, layout="middle:1/3", **options):
    return convert_checkpoint(source, destination, layout, PATTERN, **options)


def read(path) -> dict:
    return json.loads(path.read_text())


# ---------------------------------------------------------------- what is written
@pytest.mark.parametrize("family", FAMILIES)
def test_a_hybrid_that_is_all_full_is_a_base_model(family, tmp_path):
    base = tiny_base(family)
    base.save_pretrained(tmp_path / "base")
    convert(tmp_path / "base", tmp_path / "full", "all")
    for name, source in (("one", "base"), ("two", "full")):
        convert(tmp_path / source, tmp_path / name, rope_theta=5e5)
    one, two = (read(tmp_path / name / "config.json") for name in ("one", "two"))
    assert one == two
    models = [AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("one", "two")]
    assert torch.equal(models[0](tokens(40)).logits, models[1](tokens(40)).logits)
    with pytest.raises(ConfigError, match=r"a hybrid with 4 sparse layers already: .* whose layers are all full"):
        convert(tmp_path / "one", tmp_path / "three")


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_stay_and_config_changes(family, tmp_path):
    base = tiny_base(family)
    base.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    save_byte_tokenizer(tmp_path / "base")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1, "sharded"
    convert(tmp_path / "base", tmp_path / "new", rope_theta=5e5, max_length=4096)

    config = read(tmp_path / "new" / "config.json")
    assert config["model_type"] == f"longgen_{family}"
    assert config["architectures"] == [f"LongGen{type(base).__name__}"]
    assert config["longgen"]["layout"] == ["sparse", "sparse", "full", "full", "sparse", "sparse"]
    assert config["longgen"]["pattern"] == PATTERN.to_dict()
    assert config["rope_parameters"]["rope_theta"] == 5e5
    assert config["max_position_embeddings"] == 4096
    assert AutoTokenizer.from_pretrained(tmp_path / "new")("ab")["input_ids"] == [97, 98]
    for shard in (tmp_path / "base").glob("*.safetensors"):
        assert shard.read_bytes() == (tmp_path / "new" / shard.name).read_bytes()

    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    expected = dict(base.named_parameters())
    assert all(torch.equal(value, expected[name]) for name, value in converted.named_parameters())


def test_all_full_without_changes_computes_what_the_base_computes(base, tmp_path):
    convert(base, tmp_path / "new", "all")
    with torch.no_grad():
        converted = AutoModelForCausalLM.from_pretrained(tmp_path / "new")(tokens(70)).logits
        assert torch.equal(converted, tiny_base()(tokens(70)).logits)


def test_layouts_by_head_and_from_a_file(base, tmp_path):
    convert(base, tmp_path / "heads", "heads:1/2")
    assert read(tmp_path / "heads" / "config.json")["longgen"]["layout"] == [["full", "sparse"]] * 6
    assert "`hhhhhh` (h: 1/2, 1/2, 1/2, 1/2, 1/2, 1/2 of the KV" in (tmp_path / "heads" / "README.md").read_text()
    kinds = ["full", "sparse", ["sparse", "full"], "sparse", "sparse", "full"]
    (tmp_path / "layout.json").write_text(json.dumps(kinds))
    convert(base, tmp_path / "file", str(tmp_path / "layout.json"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "file").config.longgen["layout"] == kinds
    (tmp_path / "layout.json").write_text(json.dumps(["sparse"] * 5 + [["full"]]))
    with pytest.raises(ConfigError, match=r"layout\[5\] has 1 KV heads: the model has 2"):
        convert(base, tmp_path / "wrong", str(tmp_path / "layout.json"))


def test_what_travels_along():
    carried = [
        *("LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md", "additional_chat_templates/tools.jinja"),
        *("added_tokens.json", "chat_template.jinja", "generation_config.json", "merges.txt"),
        *("special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"),
    ]
    left = ["README.md", "config.json", "tokenizer.bin", "tokenizer.py", "modeling_x.py", "original/tokenizer.model"]
    left += ["model.safetensors", "training_args.bin", "vocab.pt"]
    assert companion_names([*left, *carried]) == sorted(carried)


def test_companions_arrive_and_sampling_defaults_load(base, tmp_path):
    # flags that transformers refuses to save, as Llama 2 was published with
    (base / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.6, "top_p": 0.9}))
    (base / "LICENSE").write_text("terms")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    (base / "README.md").write_text("the base's card")
    values = read(base / "config.json")
    (base / "config.json").write_text(json.dumps(values | {"temperature": 0.6, "do_sample": True}))
    convert(base, tmp_path / "new")
    assert GenerationConfig.from_pretrained(tmp_path / "new").temperature == 0.6
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "new").generation_config.top_p == 0.9
    assert (tmp_path / "new" / "LICENSE").read_text() == "terms"
    assert (tmp_path / "new" / "additional_chat_templates" / "tools.jinja").exists()
    assert "the base's card" not in (tmp_path / "new" / "README.md").read_text()


def test_card_tells_what_the_model_is_and_what_its_cache_costs(base, tmp_path):
    done = convert(base, tmp_path / "new", rope="yarn", max_length=2048, dtype="bfloat16")
    text = (tmp_path / "new" / "README.md").read_text()
    assert "\n# LongGen hybrid of base\n" in text
    assert "`ssFFss`" in text
    assert "cast to bfloat16: fine-tune before use" in text
    assert (
        "the first 8 tokens (attention sink), the last 2 blocks, its own included (sliding window) and every 4th"
        in text
    )
    assert "RoPE: base 10,000, yarn with factor 4. Longest sequence: 2,048 tokens." in text
    assert "import longgen" in text
    shape = ModelShape.from_hf_config(tmp_path / "new")
    full, mixed = parse_layout("all", 6), parse_layout("middle:1/3", 6)
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [row.split(" | ")[0] for row in rows] == ["| 64", "| 128", "| 256", "| 512", "| 1,024", "| 2,048"]
    for row, length in zip(rows, (64, 128, 256, 512, 1024, 2048), strict=True):
        sizes = [
            Model(shape, Hybrid(layout, PATTERN)).kv_cache_bytes(length, bytes_per_value=2) for layout in (full, mixed)
        ]
        saved = f"{100 * (1 - sizes[1] / sizes[0]):.1f} %"
        assert row == f"| {length:,} | {binary_size(sizes[0])} | {binary_size(sizes[1])} | {saved} |"
    assert done.card.plan(2048).kv_bytes == sizes[1]
    assert "base_model" not in text, "a folder's name is no id"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (SparsePattern(64, 1, 16), "the first 64 tokens (attention sink) and the last 16 blocks, its own included"),
        (SparsePattern(64, 0, 1), "its own block (sliding window); a block is 64 tokens"),
        (SparsePattern(8, 0, 2, 4, staggered=True), "every 4th block before, at different places for different KV"),
    ],
)
def test_pattern_in_words(pattern, words):
    assert words in pattern_in_words(pattern)


def test_drawing():
    assert draw_layout(parse_layout("ends:1/2", 4)) == "`FssF`"


# ---------------------------------------------------------------- base models
@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_a_sliding_window_is_refused_or_dropped(family, tmp_path):
    window = {"sliding_window": 16} | (
        {} if family == "mistral" else {"use_sliding_window": True, "max_window_layers": 0}
    )
    windowed, plain = tiny_base(family, **window), tiny_base(family)
    windowed.save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"base/config\.json: sliding_window is 16: .*--drop-sliding-window"):
        convert(tmp_path / "base", tmp_path / "new")
    convert(tmp_path / "base", tmp_path / "new", "all", drop_sliding_window=True)
    with torch.no_grad():
        x = tokens(70)
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "new")(x).logits, plain(x).logits)
        assert not torch.allclose(windowed(x).logits, plain(x).logits)


def test_a_window_that_only_the_class_knows_of_is_found(tmp_path):
    tiny_base("mistral").save_pretrained(tmp_path / "base")
    values = read(tmp_path / "base" / "config.json")
    del values["sliding_window"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"base/config\.json: sliding_window is 4096"):
        convert(tmp_path / "base", tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "gpt2"},
            r"model_type is 'gpt2': allowed are llama, mistral, .*, granite\. A family qualifies",
        ),
        ({"model_type": "gpt2"}, "rotary positions, one attention per decoder layer .* AttentionInterface .* soft cap"),
        ({"model_type": "longgen_llama"}, "model_type is 'longgen_llama', which is a hybrid already"),
        (
            {"longgen": {"layout": ["full"] * 6}},
            r"longgen is .*: allowed is none in a base model's config.*; remove it",
        ),
        ({"longgen": None}, "longgen is None: allowed is none in a base model's config"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan: allowed is a finite number"),
        ({"architectures": 5}, "architectures is 5: allowed is a list of names of classes, or null"),
        ({"architectures": ["A", 5]}, r"architectures is \['A', 5\]: allowed is a list of names"),
        # what we have no rule for: the class of the config, and the model made of it
        ({"mlp_bias": "yes"}, r"transformers makes no model of it \(.*mlp_bias.*expected bool, got str"),
        ({"head_dim": 17}, r"transformers makes no model of it \(.*even rotary dimension, but got `head_dim`=17"),
    ],
)
def test_base_models_that_do_not_qualify(change, message, base, tmp_path):
    (base / "config.json").write_text(json.dumps(read(base / "config.json") | change))
    with pytest.raises(ConfigError, match=message) as error:
        convert(base, tmp_path / "new")
    assert str(error.value).startswith(f"{base}/config.json: ")
    assert "\n" not in str(error.value)


def test_code_of_the_base_model_is_neither_run_nor_carried_over(base, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    marker = tmp_path / "marker"
    (base / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    remote = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (base / "config.json").write_text(json.dumps(read(base / "config.json") | {"auto_map": remote}))
    convert(base, tmp_path / "new")
    assert "auto_map" not in read(tmp_path / "new" / "config.json")
    assert not (tmp_path / "new" / "evil.py").exists()
    AutoModelForCausalLM.from_pretrained(tmp_path / "new", trust_remote_code=True)
    assert not marker.exists()
    (base / "config.json").write_text(json.dumps(read(base / "config.json") | {"model_type": "evil"}))
    with pytest.raises(ConfigError, match="model_type is 'evil'"):
        convert(base, tmp_path / "other")
    assert not marker.exists()


# ---------------------------------------------------------------- refusals
def test_refusals_name_the_folder_and_write_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"empty has no config\.json"):
        convert(tmp_path / "empty", tmp_path / "new", "all")
    tiny_base().save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"full_layers is '7': allowed is a count 0\.\.6"):
        convert(tmp_path / "base", tmp_path / "new", "middle:7")
    with pytest.raises(ConfigError, match=r"dtype is 'int8': allowed are bfloat16, float16, float32"):
        convert(tmp_path / "base", tmp_path / "new", dtype="int8")
    with pytest.raises(ConfigError, match=r"revision is 'v1' with the folder .*base: allowed is one with a hub id"):
        convert(tmp_path / "base", tmp_path / "new", revision="v1")
    (tmp_path / "base" / "generation_config.json").write_text("{bad")
    with pytest.raises(ArtifactError, match=r"base/generation_config\.json is not readable as JSON"):
        convert(tmp_path / "base", tmp_path / "new", "all")
    (tmp_path / "base" / "generation_config.json").unlink()
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "weights.bin")
    with pytest.raises(ArtifactError, match=r"base has no \*\.safetensors .*there is weights\.bin"):
        convert(tmp_path / "base", tmp_path / "new", "all")
    (tmp_path / "base" / "config.json").write_text("[")
    with pytest.raises(ArtifactError, match=r"base/config\.json is not readable as JSON"):
        convert(tmp_path / "base", tmp_path / "new", "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "empty"]


def test_the_base_model_is_never_replaced(base, tmp_path):
    before = sorted(base.iterdir())
    for destination in (base, tmp_path, base / ".." / "base"):
        with pytest.raises(ArtifactError, match="holds the base model"):
            convert(base, destination, overwrite=True)
    (tmp_path / "link").symlink_to(base)
    for destination in (base / "sub", base / "new" / "sub", tmp_path / "link" / "sub"):
        with pytest.raises(
            ArtifactError, match=r"sub is inside the base model's folder .*base: allowed is a folder out"
        ):
            convert(base, destination)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file is a file"):
        convert(base, tmp_path / "file", overwrite=True)
    assert sorted(base.iterdir()) == before


# ---------------------------------------------------------------- a second call
def inventory(folder) -> dict:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_a_second_call_finds_its_work_done(base, tmp_path):
    first = convert(base, tmp_path / "new", max_length=4096, rope_theta=5e5)
    before = inventory(tmp_path / "new")
    second = convert(base, tmp_path / "new", max_length=4096, rope_theta=5e5, rope="abf")
    assert (first.written, second.written) == (True, False)
    assert second.card == first.card
    assert inventory(tmp_path / "new") == before
    assert convert(base, tmp_path / "new", max_length=4096, rope_theta=5e5, overwrite=True).written
    assert inventory(tmp_path / "new") != before


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"layout": "ends:1/3"}, r"request\.layout is .* now and was"),
        ({"rope_theta": 3e5}, r"request\.rope is 'abf' now and was None"),
        ({"rope": "linear", "max_length": 4096}, r"request\.max_length is 4096 now and was None"),
        ({"dtype": "bfloat16"}, r"request\.dtype is 'bfloat16' now and was None"),
    ],
)
def test_another_request_is_refused(options, difference, base, tmp_path):
    convert(base, tmp_path / "new")
    before = inventory(tmp_path / "new")
    with pytest.raises(ArtifactError, match=rf"another conversion \({difference}.*\): give --overwrite"):
        convert(base, tmp_path / "new", **options)
    assert inventory(tmp_path / "new") == before
    assert convert(base, tmp_path / "new", **options, overwrite=True).written


def test_a_changed_source_or_result_is_refused(base, tmp_path):
    shard = min(base.glob("*.safetensors"))
    convert(base, tmp_path / "new")
    (tmp_path / "new" / shard.name).write_bytes(b"cut")
    with pytest.raises(ArtifactError, match=rf"its {shard.name} is missing or was changed: give --overwrite"):
        convert(base, tmp_path / "new")
    convert(base, tmp_path / "new", overwrite=True)
    (tmp_path / "new" / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"its config\.json is missing or was changed: give --overwrite"):
        convert(base, tmp_path / "new")
    convert(base, tmp_path / "new", overwrite=True)
    os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 1))
    with pytest.raises(ArtifactError, match=rf"source\.files\.{shard.name}\.mtime_ns is \d+ now and was \d+"):
        convert(base, tmp_path / "new")
    convert(base, tmp_path / "new", overwrite=True)
    (base / "LICENSE").write_text("new terms")
    with pytest.raises(ArtifactError, match=r"source\.files\.LICENSE is .* now and was None"):
        convert(base, tmp_path / "new")


def test_a_folder_that_is_not_ours_is_kept_unless_told(base, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("precious")
    with pytest.raises(ArtifactError, match="exists and is no result of `longgen convert`: give --overwrite"):
        convert(base, tmp_path / "new")
    assert (tmp_path / "new" / "mine.txt").read_text() == "precious"
    convert(base, tmp_path / "new", overwrite=True)
    assert (tmp_path / "new" / "config.json").is_file()


def test_no_path_of_the_machine_is_written(base, tmp_path):
    convert(base, tmp_path / "new")
    record = read(tmp_path / "new" / "longgen_conversion.json")
    assert (record["source"]["name"], record["source"]["revision"]) == ("base", None)
    for path in (tmp_path / "new").iterdir():
        if path.suffix != ".safetensors":
            assert str(tmp_path) not in path.read_text(), path.name


def test_moving_the_folders_changes_nothing(base, tmp_path):
    convert(base, tmp_path / "new")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(base, tmp_path / "elsewhere" / "base")
    shutil.move(tmp_path / "new", tmp_path / "elsewhere" / "new")
    assert not convert(tmp_path / "elsewhere" / "base", tmp_path / "elsewhere" / "new").written


# ---------------------------------------------------------------- without longgen
PLAIN = """
import itertools, sys, transformers
cls = getattr(transformers, sys.argv[1])
for folder, options in itertools.product(sys.argv[2:], ({}, {"attn_implementation": "sdpa"})):
    try:
        cls.from_pretrained(folder, **options)
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])
    else:
        print("loaded")
"""


@pytest.mark.slow
def test_the_base_models_class_refuses_a_hybrid(base, tmp_path):
    convert(base, tmp_path / "new", rope_theta=5e5)
    # as after fine-tuning
    AutoModelForCausalLM.from_pretrained(tmp_path / "new").save_pretrained(tmp_path / "trained")
    command = [sys.executable, "-c", PLAIN, "LlamaForCausalLM", str(tmp_path / "new"), str(tmp_path / "trained")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert outcome.stdout.splitlines() == ["KeyError 'longgen (import longgen to load this model)'"] * 4


@pytest.mark.parametrize("family", FAMILIES)
def test_with_longgen_imported_the_base_models_class_refuses_too_and_ours_loads(family, tmp_path):
    base = tiny_base(family)
    base.save_pretrained(tmp_path / "base")
    convert(tmp_path / "base", tmp_path / "new", rope="yarn", max_length=4096)
    with pytest.raises(KeyError, match="import longgen"):
        type(base).from_pretrained(tmp_path / "new")
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "new").config
    assert config.rope_parameters["rope_type"] == "yarn"
    assert read(tmp_path / "new" / "config.json")["rope_parameters"] == config.rope_parameters
    assert type(config).from_dict(config.to_dict()).rope_parameters == config.rope_parameters
