"""Which runs are pooled: those that differ in name and seed alone, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longgen.reporting.run import Run, open_run
from longgen.reporting.seeds.groups import find_groups, what_differs
from tests.reporting.fake_run import write_run
from tests.reporting.fake_seeds import VARIANTS, edit, write_seed

ROOT = Path(__file__).parents[2]


def open_all(folder: Path) -> list[Run]:
    return [open_run(path.name, folder) for path in sorted(folder.iterdir())]


def two(folder: Path) -> Path:
    """Seeds 0 and 1; returns the folder of the second."""
    write_seed(folder / "mini", 0)
    return write_seed(folder / "mini-seed-1", 1)


def test_runs_that_differ_in_name_and_seed_are_a_group(seed_group_folder: Path) -> None:
    (group,) = find_groups(list(reversed(open_all(seed_group_folder))))
    assert group.name == "mini-seeds"
    assert {seed: run.name for seed, run in group.runs.items()} == {0: "mini", 1: "mini-seed-1", 2: "mini-seed-2"}
    assert list(group.runs) == [0, 1, 2], "whatever the order they are given in"
    assert group.variants == tuple(VARIANTS)


def test_what_was_measured_may_differ(tmp_path: Path) -> None:
    second = two(tmp_path)
    for path in ("benchmarks/top-1-3/scores.json", "training/top-1-3.json", "profile/speed.json"):
        (second / path).unlink()

    def fewer(value: dict[str, Any]) -> None:
        value["settings"]["answers"] = value["settings"]["answers"][1:]

    edit(second / "benchmarks/full/reduced-as-longgen-sink/scores.json", fewer)
    edit(second / "plan.json", lambda value: value["settings"].update(default_variants=["full", "ends-1-3"]))
    edit(second / "profile/memory.json", lambda value: value["settings"].update(variants=["full"]))
    edit(second / "training/full.json", lambda value: value["settings"].update(setup={"processes": 8}))
    assert len(find_groups(open_all(tmp_path))) == 1


def set_to(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("training/full.json", set_to("settings", "extension", "rope_theta", value=2e6), "training extension"),
        ("training/ends-1-3.json", set_to("settings", "longgen", value="other"), "training longgen ends-1-3"),
        ("training/full.json", set_to("settings", "training_attention", value="shifted"), "training longgen full"),
        ("plan.json", set_to("settings", "model", "hidden_size", value=512), "plan model"),
        ("plan.json", set_to("settings", "trained_length", value=512), "plan trained_length"),
        ("plan.json", set_to("settings", "variants", "ends-1-3", "placement", value="top"), "plan variants"),
        (
            "benchmarks/full/scores.json",
            lambda found: found["settings"]["prompts"][0].update(depths=[0]),
            "retrieval prompts",
        ),
        ("profile/speed.json", set_to("settings", "profiling", "repeats", value=9), "speed profiling"),
        ("corpus.json", lambda found: found["records"][0].update(sha256="1" * 64), "corpus sha256"),
        (
            "benchmarks/full/reduced-as-longgen-sink/scores.json",
            lambda found: found["settings"]["prompts"].pop(),
            "kv-reduction prompts",
        ),
        (
            "benchmarks/full/reduced-as-longgen-stride/scores.json",
            lambda found: found["settings"]["answers"][0]["kv_reduction"].update(learned={"steps": 8}),
            "kv-reduction answers tova",
        ),
        (
            "benchmarks/top-1-3/scores.json",
            lambda found: found["settings"]["answers"][0].update(dtype="bfloat16"),
            "retrieval answers",
        ),
        (
            "benchmarks/full/perplexity.json",
            set_to("settings", "length", value=512),
            "perplexity length",
        ),
    ],
)
def test_another_configuration_never_joins(
    path: str, change: Callable[[dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    second = two(tmp_path)
    assert len(find_groups(open_all(tmp_path))) == 1
    edit(second / path, change)
    runs = open_all(tmp_path)
    assert find_groups(runs) == []
    assert what_differs(*runs) == f"mini and mini-seed-1 differ in {words}"


def test_runs_without_a_recipe_or_of_two_seeds_are_in_no_group(tmp_path: Path) -> None:
    second = two(tmp_path)
    for path in (second / "training").iterdir():
        path.rename(tmp_path / path.name)
    first, other = (open_run(name, tmp_path) for name in ("mini", "mini-seed-1"))
    assert what_differs(first, other) == "mini-seed-1 has no training/<variant>.json with extension in its settings"
    for path in tmp_path.glob("*.json"):
        path.rename(second / "training" / path.name)
    edit(second / "profile/speed.json", lambda value: value["provenance"].update(seed=0))
    assert what_differs(first, open_run("mini-seed-1", tmp_path)) == "mini-seed-1 has files of seeds 0, 1"
    assert find_groups([first, open_run("mini-seed-1", tmp_path)]) == []


def test_a_seed_is_in_a_group_once(tmp_path: Path) -> None:
    second = two(tmp_path)
    second.rename(tmp_path / "again-seed-1")
    write_seed(tmp_path / "other", 0)
    runs = open_all(tmp_path)
    assert [run.name for run in runs] == ["again-seed-1", "mini", "other"]
    (group,) = find_groups(runs)
    assert {seed: run.name for seed, run in group.runs.items()} == {0: "mini", 1: "again-seed-1"}
    assert group.name == "again-seeds"
    assert what_differs(runs[1], runs[2]) == "mini and other have the same seed, 0"


def test_groups_of_two_configurations_have_two_names(tmp_path: Path) -> None:
    two(tmp_path)
    for seed in (2, 3):
        folder = write_seed(tmp_path / f"mini-seed-{seed}", seed)
        edit(folder / "plan.json", lambda value: value["settings"].update(base_length=64))
    assert [group.name for group in find_groups(open_all(tmp_path))] == ["mini-seeds", "mini-seed-2-seeds"]


def test_published_runs_of_two_configurations_are_no_group() -> None:
    first, second = (open_run(f"published/{name}", ROOT / "results") for name in ("smoke-cpu", "mini-cpu-seed-1"))
    assert find_groups([first, second]) == []
    assert "differ in" in str(what_differs(first, second))


def test_runs_that_say_nothing_of_their_settings_are_no_group(tmp_path: Path) -> None:
    assert find_groups([open_run(write_run(tmp_path / name).name, tmp_path) for name in ("a", "b")]) == []
