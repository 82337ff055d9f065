"""The configuration: what is read, and that every bad input names the file, the key, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from longgen.config import DuoAttentionSettings, Experiment, KvReductionSettings, SuiteSettings, load_experiment
from longgen.errors import ConfigError
from tests.experiments import experiment_file, tiny_settings

RECALL = "benchmarks.suites.recall"
MISSING = object()
ROOT = Path(__file__).parents[1]


def changed(key: str, value: Any) -> dict[str, Any]:
    """The tiny experiment's settings with the one at a dotted key replaced, or removed."""
    settings = tiny_settings()
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    place: Any = settings
    for part in path:
        place = place[part]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return settings


def refusal(folder: Path, settings: dict[str, Any]) -> str:
    """The error message for ``settings``, which starts with the path of the file, without that path."""
    path = experiment_file(folder, settings)
    with pytest.raises(ConfigError) as error:
        load_experiment(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# ---------------------------------------------------------------- what is read
def test_the_tiny_experiment(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path))
    assert isinstance(experiment, Experiment)
    assert experiment.extension.max_length == 256
    middle, ends, full = (experiment.variant(name) for name in ("middle", "ends", "full"))
    assert middle.layout.full == (False, False, True, True, False, False)
    assert (middle.pattern, middle.pattern_name) == (experiment.patterns["sink"], "sink")
    assert ends.layout.full == (True, False, False, False, False, True)
    assert (ends.pattern.stride, ends.placement) == (4, "ends")
    assert (full.layout.num_sparse, full.pattern_name) == (0, "none")


REDUCTION = {"methods": ["snapkv", "duo-attention"], "budgets_of": ["middle", "ends"]}


def test_kv_reductions(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path, changed("benchmarks.kv_reduction", REDUCTION)))
    assert experiment.benchmarks is not None
    found = experiment.benchmarks.kv_reduction
    assert found == KvReductionSettings(["snapkv", "duo-attention"], ["middle", "ends"])
    assert found.duo_attention == DuoAttentionSettings(steps=2000, learning_rate=0.02), "the authors'"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"methods": ["h3o"]}, "methods is ['h3o']: allowed is at least one of sink-window, lm-infinite, "),
        ({"methods": []}, "methods is []: allowed is at least one of sink-window"),
        ({"methods": ["tova", "tova"]}, "methods is ['tova', 'tova']: allowed is at least one of sink-window"),
        ({"budgets_of": ["full"]}, "budgets_of is ['full']: allowed is at least one of middle, ends, none, each once"),
        ({"budgets_of": "middle"}, "budgets_of is 'middle': allowed is a list"),
        ({"tasks": ["multikey"]}, "tasks is ['multikey']: allowed is at least one of needle, each once"),
        ({"tasks": []}, "tasks is []: allowed is at least one of needle, each once"),
        ({"lengths": [512]}, "lengths is [512]: allowed is at least one of 192, 256, each once"),
        ({"suites": ["needle"]}, "suites is ['needle']: allowed is at least one of recall, each once"),
        ({"duo_attention": {"steps": 0}}, "duo_attention.steps is 0: allowed is a whole number >= 1"),
        ({"duo_attention": {"learning_rate": 0.0}}, "duo_attention.learning_rate is 0.0: allowed is a number > 0"),
        ({"duo_attention": {"length": 64}}, "duo_attention.length is 64: allowed is null, or 192..256"),
        ({"duo_attention": {"length": 512}}, "duo_attention.length is 512: allowed is null, or 192..256"),
        ({"duo_attention": {"pattern": "x"}}, "duo_attention.pattern is 'x': allowed is null, sink, stride"),
    ],
)
def test_bad_kv_reductions_are_refused(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    found = refusal(tmp_path, changed("benchmarks.kv_reduction", REDUCTION | asked))
    assert found.startswith(f"benchmarks.kv_reduction.{message}")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evaluation", {"lengths": [256]}, "evaluation is no key any more: allowed is benchmarks, with suites.recall"),
        ("benchmarks.long_text", {"length": 9}, "benchmarks.long_text is no key any more: allowed is perplexity, with"),
    ],
)
def test_former_keys_are_refused_with_what_to_write_instead(tmp_path: Path, key: str, value: Any, message: str) -> None:
    assert refusal(tmp_path, changed(key, value)).startswith(message)


BENCHMARKS = {
    "suites": {"needle": {"samples": 1, "lengths": [512], "tasks": ["keys"], "depths": [0, 1]}},
    "kv_reduction": {"methods": ["snapkv"], "budgets_of": ["middle"]},
}


def test_benchmarks(tmp_path: Path) -> None:
    found = load_experiment(experiment_file(tmp_path, changed("benchmarks", BENCHMARKS))).benchmarks
    assert found is not None
    assert found.suites == {"needle": SuiteSettings(1, lengths=[512], tasks=["keys"], depths=[0.0, 1.0])}
    assert (found.dtype, found.device, found.shards, found.perplexity) == ("float32", "cpu", 1, None)
    for name in ("llama2-7b", "benchmarks-offline"):
        loaded = load_experiment(ROOT / "config" / f"{name}.yaml").benchmarks
        assert loaded is not None
        assert [*loaded.suites][-4:] == ["needle", "ruler", "babilong", "longbench"]
        stand_in = {suite.data_root for suite in loaded.suites.values()} == {None}
        assert stand_in == (name == "benchmarks-offline")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"suites": {}}, "suites is {}: allowed is at least one, unless perplexity or short_context is given"),
        (
            {"suites": {"mmlu": {"samples": 1}}},
            "suites is 'mmlu': allowed is recall, needle, ruler, babilong, longbench",
        ),
        ({"suites": {"ruler": {"samples": 1}}}, "suites.ruler.lengths is None: allowed is at least one length"),
        ({"suites": {"ruler": {"samples": 0, "lengths": [512]}}}, "suites.ruler.samples is 0: allowed is a whole"),
        (
            {"suites": {"ruler": {"samples": 1, "lengths": [512], "tasks": ["vt", "qa_9"]}}},
            "suites.ruler.tasks[1] is 'qa_9': allowed is niah_single_1, ",
        ),
        (
            {"suites": {"babilong": {"samples": 1, "depths": [0]}}},
            "suites.babilong.depths is [0.0]: allowed is null: recall and needle alone have depths",
        ),
        (
            {"suites": {"longbench": {"samples": 1, "tasks": []}}},
            "suites.longbench.tasks is []: allowed is null, or at",
        ),
        ({"shards": 0}, "shards is 0: allowed is a whole number >= 1"),
        ({"dtype": "int8"}, "dtype is 'int8': allowed is one of 'bfloat16', 'float16', 'float32'"),
        ({"perplexity": {"length": 0, "documents": 1}}, "perplexity.length is 0: allowed is a whole number >= 1"),
    ],
)
def test_bad_benchmarks_are_refused(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    assert refusal(tmp_path, changed("benchmarks", BENCHMARKS | asked)).startswith(f"benchmarks.{message}")


def test_whole_numbers_stand_for_numbers(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path, changed("extension.rope_theta", 50000)))
    assert type(experiment.extension.rope_theta) is float


def test_sections_are_plain_data(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path))
    section = experiment.section("patterns", "seed")
    assert section["seed"] == 7
    assert yaml.safe_load(yaml.safe_dump(section)) == section


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    text = path.read_text().replace("  stride:\n    block_size: 8\n", "  stride:\n    <<: *sizes\n    block_size: 4\n")
    text = text.replace("  sink:\n    block_size", "  sink: &sizes\n    block_size")
    path.write_text(text)
    assert load_experiment(path).patterns["stride"].block_size == 4


# ---------------------------------------------------------------- bad input, one value each
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        # unknown and missing keys
        ("sed", 1, "sed is not a known key (did you mean 'seed'?): allowed are name, model, extension"),
        ("model.hidden_sizes", 1, "model.hidden_sizes is not a known key (did you mean 'hidden_size'?): allowed are"),
        ("extension.phases.1.lenght", 1, "extension.phases[1].lenght is not a known key (did you mean 'length'?)"),
        ("extension", MISSING, "extension is missing: Experiment needs it"),
        ("data.sources.0.kind", "web", "data.sources[0].kind is 'web': allowed is python-stdlib, pydoc-topics, text"),
        ("base.phases.0.mixture", {"poems": 1.0}, "base.phases[0].mixture is 'poems': allowed is text, repeats"),
        ("base.optimizer", {"name": "sgd"}, "base.optimizer.name is 'sgd': allowed is one of 'adamw', 'muon'"),
        ("base.early_exit_layers", 6, "base.early_exit_layers is 6: allowed is 1..5 or null"),
        (f"{RECALL}.tasks", ["riddle"], f"{RECALL}.tasks[0] is 'riddle': allowed is needle"),
        (f"{RECALL}.lengths", [64, 256], f"{RECALL}.lengths[0] is 64: allowed is at least 192"),
        (f"{RECALL}.lengths", [192], f"{RECALL}.lengths is [192]: allowed is a list with the longest length"),
        ("profiling.lengths", [512], "profiling.lengths is [512]: allowed is a list with the longest length of the"),
        ("model.hidden_size", MISSING, "model.hidden_size is missing: ModelSettings needs it"),
        # wrong types
        ("seed", "7", "seed is '7': allowed is a whole number"),
        ("seed", 7.0, "seed is 7.0: allowed is a whole number"),
        ("seed", True, "seed is True: allowed is a whole number"),
        ("model", [1], "model is [1]: allowed is a mapping"),
        ("default_variants", "full", "default_variants is 'full': allowed is a list"),
        (f"{RECALL}.lengths", "64", f"{RECALL}.lengths is '64': allowed is a list or null"),
        ("data.tokenizer", "bpe", "data.tokenizer is 'bpe': allowed is one of 'bytes'"),
        ("variants.full.full_layers", None, "variants.full.full_layers is None: allowed is a whole number or a number"),
        ("base.phases.0.learning_rate", "3e-4", "base.phases[0].learning_rate is '3e-4', which YAML reads as text"),
        ("base.phases.0.learning_rate", float("nan"), "base.phases[0].learning_rate is nan: allowed is a number"),
        ("extension.rope_theta", float("inf"), "extension.rope_theta is inf: allowed is a number"),
        # numbers out of range
        ("name", "Tiny run", "name is 'Tiny run': allowed are a-z"),
        ("name", "published", "name is 'published': allowed are"),
        ("data.heldout_fraction", 1.0, "data.heldout_fraction is 1.0: allowed is a number within 0..1"),
        ("data.sources", [], "data.sources is []: allowed is at least one source"),
        ("model.hidden_size", 30, "model.hidden_size is 30: allowed is a multiple of 4 heads"),
        ("model.hidden_size", 12, "model.hidden_size is 12: allowed is such that head_dim is even"),
        ("model.num_key_value_heads", 3, "model.num_key_value_heads is 3: allowed is a divisor of"),
        ("model.num_hidden_layers", 0, "model.num_hidden_layers is 0: allowed is a whole number >= 1"),
        ("base.phases", [], "base.phases is []: allowed is at least one phase"),
        ("base.phases.0.steps", 0, "base.phases[0].steps is 0: allowed is a whole number >= 1"),
        ("base.phases.0.warmup_steps", 3, "base.phases[0].warmup_steps is 3: allowed is 0..2"),
        ("base.phases.0.mixture", {"text": 0.7}, "base.phases[0].mixture is {'text': 0.7}: allowed is shares"),
        ("base.phases.0.mixture", {"text": 2, "x": -1}, "base.phases[0].mixture is {'text': 2.0, 'x': -1.0}: allowed"),
        ("base.optimizer", {"betas": [0.9]}, "base.optimizer.betas is [0.9]: allowed is two numbers within 0..1"),
        (f"{RECALL}.depths", [0.5, 1.5], f"{RECALL}.depths is [0.5, 1.5]: allowed is null, or at least one"),
        (f"{RECALL}.depths", [], f"{RECALL}.depths is []: allowed is null, or at least one"),
        (f"{RECALL}.lengths", [], f"{RECALL}.lengths is []: allowed is null, or at least one"),
        (f"{RECALL}.lengths", None, f"{RECALL}.lengths is None: allowed is at least one length"),
        (f"{RECALL}.data_root", "data", f"{RECALL}.data_root is 'data': allowed is null: the run's own corpus"),
        (f"{RECALL}.task_samples", {"riddle": 1}, f"{RECALL}.task_samples is 'riddle': allowed is needle"),
        (f"{RECALL}.task_samples", {"needle": 0}, f"{RECALL}.task_samples.needle is 0: allowed is a whole number >= 1"),
        ("profiling.repeats", 2, "profiling.repeats is 2: allowed is a whole number >= 3"),
        # layer ratios and placements
        ("variants.middle.full_layers", 1.5, "variants.middle.full_layers is 1.5: allowed is a count 0..6, a fraction"),
        ("variants.middle.full_layers", -0.5, "variants.middle.full_layers is -0.5: allowed is a count 0..6"),
        ("variants.middle.full_layers", "4/3", "variants.middle.full_layers is '4/3': allowed is a count 0..6"),
        ("variants.middle.full_layers", 7, "variants.middle.full_layers is 7: allowed is a count 0..6"),
        ("variants.middle.placement", "centre", "variants.middle.placement is 'centre': allowed is middle, ends"),
        ("variants.full.full_layers", "1/2", "variants.full.pattern is None: allowed are sink, stride"),
        (
            "variants.full",
            {"full_layers": "all", "trained": False},
            "variants.full.trained is False: allowed is true",
        ),
        ("variants.full", {"full_layers": 3, "pattern": "sink"}, "variants.full.full_layers is 3: allowed is all"),
        # patterns
        ("patterns", {}, "patterns is {}: allowed is at least one pattern"),
        ("patterns.sink.block_size", 0, "patterns.sink.block_size is 0: allowed is a whole number >= 1"),
        ("patterns.stride.stride", 1, "patterns.stride.stride is 1: that is full attention; allowed is 0"),
        ("patterns.stride.stride", 31, "patterns.stride.stride is 31: it never fires within 256 tokens; allowed is 0"),
        ("variants.middle.pattern", "window", "variants.middle.pattern is 'window': allowed are sink, stride"),
        ("variants.full.pattern", "window", "variants.full.pattern is 'window': allowed are sink, stride"),
        # lengths against blocks
        ("extension.phases.0.length", 100, "extension.phases[0].length is 100: allowed is a multiple of the block"),
        (f"{RECALL}.lengths.1", 100, f"{RECALL}.lengths[1] is 100: allowed is a multiple of the block size"),
        ("profiling.lengths.1", 0, "profiling.lengths[1] is 0: allowed is a multiple of the block size 8 of"),
        ("profiling.training_lengths.0", 1, "profiling.training_lengths[0] is 1: allowed is a multiple of the block"),
        # names
        ("default_variants", ["full", "mid"], "default_variants[1] is 'mid': allowed is one of full, middle"),
        ("default_variants", ["middle"], "default_variants is ['middle']: allowed is a list with 'full'"),
        ("default_variants", ["full", "full"], "default_variants is ['full', 'full']: allowed is each name once"),
        ("variants.a/b", {"full_layers": 1, "pattern": "sink"}, "variants is 'a/b': allowed is letters, digits"),
        ("variants.Middle", {"full_layers": 1, "pattern": "sink"}, "variants.Middle clashes with variants.middle"),
    ],
)
def test_bad_value_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    found = refusal(tmp_path, changed(key, value))
    assert found.startswith(message)
    assert "allowed" in found or "missing" in found or "must" in found


@pytest.mark.parametrize("local_blocks", [31, 32, 100])
def test_pattern_that_sees_everything_is_refused(tmp_path: Path, local_blocks: int) -> None:
    message = refusal(tmp_path, changed("patterns.sink.local_blocks", local_blocks))
    assert message.startswith("patterns.sink is {'block_size': 8, 'sink_blocks': 1, ")
    assert f"'local_blocks': {local_blocks}" in message
    assert "sees every token at the longest training length 256; allowed are sizes" in message


def test_pattern_that_leaves_one_block_out_is_accepted(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path, changed("patterns.sink.local_blocks", 30)))
    assert experiment.patterns["sink"].local_blocks == 30


def test_allowed_strides_are_those_that_fire(tmp_path: Path) -> None:
    # sink 1 and window 2 of 32 blocks: strided blocks count if they are number 2..30
    assert "allowed is 0, or a number with a multiple within 2..30" in refusal(
        tmp_path, changed("patterns.stride.stride", 40)
    )
    load_experiment(experiment_file(tmp_path, changed("patterns.stride.stride", 30)))


def test_unknown_variant_is_refused(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path))
    with pytest.raises(ConfigError, match="variant is 'mid': allowed are full, middle, ends, none"):
        experiment.variant("mid")


# ---------------------------------------------------------------- bad files
def test_repeated_key_is_refused(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    text = path.read_text().replace("  none:\n", "  middle:\n")
    line = [number for number, words in enumerate(text.splitlines(), start=1) if words == "  middle:"][1]
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_experiment(path)
    assert str(error.value) == f"{path}: key 'middle' occurs twice (line {line}): names must be unique"


@pytest.mark.parametrize("text", ["", "- 1\n", "just words\n", "null\n"])
def test_file_without_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"tiny\.yaml: the file is .*: allowed is a mapping"):
        load_experiment(path)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml does not exist: give the path of a configuration"):
        load_experiment(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="is a folder: give the path of a configuration"):
        load_experiment(tmp_path)
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml cannot be read as UTF-8 text"):
        load_experiment(path)
    path.write_text("name: [1\n")
    with pytest.raises(
        ConfigError, match=r"binary\.yaml is not valid YAML: expected ',' or ']'.* \(line 2, column 1\)$"
    ):
        load_experiment(path)
