"""Configurations that extend others: what is replaced, what depends on the files, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from longgen.config import Experiment, load_experiment
from longgen.data.packing.configuration import load_pack_settings
from longgen.errors import ConfigError
from longgen.provenance import fingerprint
from longgen.strict import load_configuration
from tests.experiments import experiment_file, tiny_settings

ROOT = Path(__file__).parents[1]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def seed_file(folder: Path, text: str = "extends: tiny.yaml\nname: tiny-seed-1\nseed: 1\n") -> Path:
    experiment_file(folder)
    return write(folder / "tiny-seed-1.yaml", text)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_experiment(path)
    return str(error.value)


def test_keys_of_the_file_replace_those_of_the_extended_one(tmp_path: Path) -> None:
    own, other = load_experiment(seed_file(tmp_path)), load_experiment(tmp_path / "tiny.yaml")
    assert (own.name, own.seed, other.seed) == ("tiny-seed-1", 1, 7)
    same = [field.name for field in dataclasses.fields(Experiment) if field.name not in ("name", "seed")]
    assert own.section(*same) == other.section(*same)


def test_a_key_is_replaced_as_a_whole(tmp_path: Path) -> None:
    seed_file(tmp_path)
    write(tmp_path / "few.yaml", "extends: tiny-seed-1.yaml\nvariants: {full: {full_layers: all}}\n")
    path = write(tmp_path / "few.yaml", (tmp_path / "few.yaml").read_text() + "default_variants: [full]\n")
    found = load_experiment(path)
    assert list(found.variants) == ["full"], "nothing of the other file's variants stays"
    assert (found.name, found.seed) == ("tiny-seed-1", 1), "from the middle of the chain"
    assert list(found.patterns) == ["sink", "stride"], "from its end"


def test_paths_are_relative_to_the_file_that_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment_file(tmp_path)
    write(tmp_path / "seeds/more/two.yaml", "extends: ../one.yaml\nseed: 2\n")
    write(tmp_path / "seeds/one.yaml", "extends: ../tiny.yaml\nname: deep\nseed: 1\n")
    monkeypatch.chdir(tmp_path / "seeds")
    found = load_experiment("more/two.yaml")
    assert (found.name, found.seed) == ("deep", 2)


def test_steps_depend_on_values_and_not_on_files(tmp_path: Path) -> None:
    """Snakemake reruns by fingerprints of sections: an edit of the extended file is seen in all that extend it."""
    whole = load_experiment(experiment_file(tmp_path, tiny_settings() | {"name": "tiny-seed-1", "seed": 1}))
    path = seed_file(tmp_path)
    assert load_experiment(path) == whole
    before = fingerprint(load_experiment(path).section("extension"))
    edited = tiny_settings()
    edited["extension"]["phases"][0]["steps"] += 1
    experiment_file(tmp_path, edited)
    after = load_experiment(path)
    assert fingerprint(after.section("extension")) != before
    assert after.section("base", "seed") == whole.section("base", "seed")


def test_no_rule_takes_a_configuration_file_as_input() -> None:
    """Or an edit of a comment would train everything again, and one of an extended file nothing."""
    rules = "\n".join(path.read_text() for path in sorted((ROOT / "workflows/rules").glob("*.smk")))
    uses = {line.strip() for line in rules.splitlines() if "CONFIG" in line and "config.get" not in line}
    load, message = "EXPERIMENT = load_experiment(CONFIG)", "raise WorkflowError("
    assert load in uses
    assert {use for use in uses - {load} if not use.startswith(message)} == {"config=CONFIG,"}
    for block in rules.split("config=CONFIG,")[:-1]:
        assert [line.strip() for line in block.splitlines() if line.strip().endswith(":")][-1] == "params:"


def test_packing_extends_too(tmp_path: Path) -> None:
    text = (ROOT / "config/data/python-code-32k.yaml").read_text()
    other = load_pack_settings(write(tmp_path / "all.yaml", text))
    own = load_pack_settings(write(tmp_path / "own.yaml", f"extends: all.yaml\nseed: {other.seed + 1}\n"))
    assert own.seed == other.seed + 1
    assert own.sources == other.sources


@pytest.mark.parametrize("extended", ["", "3", "[tiny.yaml]", "null"])
def test_something_else_than_a_path_is_refused(tmp_path: Path, extended: str) -> None:
    path = seed_file(tmp_path, f"extends: {extended}\n")
    value = yaml.safe_load(f"x: {extended}")["x"]
    assert refusal(path).startswith(f"{path}: extends is {value!r}: allowed is the path of a configuration")


def test_an_absent_file_is_named_with_who_extends_it(tmp_path: Path) -> None:
    path = seed_file(tmp_path, "extends: nowhere.yaml\n")
    assert refusal(path).startswith(f"{path}: extends is 'nowhere.yaml': {tmp_path / 'nowhere.yaml'} does not exist")


def test_circles_are_refused(tmp_path: Path) -> None:
    itself = write(tmp_path / "itself.yaml", "extends: ./itself.yaml\n")
    assert "leads in a circle" in refusal(itself)
    first = write(tmp_path / "first.yaml", "extends: second.yaml\n")
    second = write(tmp_path / "second.yaml", f"extends: ../{tmp_path.name}/first.yaml\n")
    message = refusal(first)
    assert message.startswith(f"{second}: extends is '../{tmp_path.name}/first.yaml', which leads in a circle: {first}")


def test_only_a_mapping_is_extended(tmp_path: Path) -> None:
    path = seed_file(tmp_path, "extends: list.yaml\n")
    write(tmp_path / "list.yaml", "[1, 2]\n")
    assert refusal(path).endswith(f"{tmp_path / 'list.yaml'} is [1, 2]: allowed is a mapping")


def test_a_bad_value_names_both_files(tmp_path: Path) -> None:
    path = seed_file(tmp_path)
    experiment_file(tmp_path, tiny_settings() | {"default_variants": ["none"]})
    named = f"{path} (extends {tmp_path / 'tiny.yaml'}): default_variants is ['none']"
    assert refusal(path).startswith(named)


def test_a_file_that_extends_none_is_as_it_was(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    assert load_configuration(path) == (tiny_settings(), str(path))
