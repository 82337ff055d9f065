"""Reading a run: frames, plan, the order of variants, and what is said when something is absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from longgen.config import load_experiment
from longgen.errors import ArtifactError, ConfigError
from longgen.planner import experiment_records, experiment_settings
from longgen.records.kinds import KINDS, PUBLICATION
from longgen.reporting import EXPERIMENT, KERNELS
from longgen.reporting.excerpts import with_tables
from longgen.reporting.run import Run, open_run, published_runs
from longgen.results import Result, save_result
from tests.experiments import tiny_settings
from tests.reporting.fake_kernels import write_kernel_run
from tests.reporting.fake_run import ABLATION, DEFAULTS, DEVICE, TRAINED, write_run


def test_frames_have_the_contracts_columns_and_the_plans_order(ablation_run: Run) -> None:
    for kind, contract in KINDS.items():
        if contract.subject == EXPERIMENT:
            assert {*contract.column_names, "variant"} <= set(ablation_run.frame(kind).columns)
    assert list(dict.fromkeys(ablation_run.frame("retrieval")["variant"])) == list(ABLATION)
    assert ablation_run.variants == tuple(ABLATION)


def test_plan_holds_layouts_and_patterns(run: Run) -> None:
    assert run.plan.trained_length == TRAINED
    assert list(run.plan.variants) == list(DEFAULTS)
    assert run.plan.variants["longgen-sink"].layout.full == (False, False, True, True, False, False)
    assert run.plan.variants["longgen-stride"].pattern.stride == 8
    assert run.device("speed") == DEVICE


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_absent_input_names_file_and_command(kind: str, tmp_path: Path) -> None:
    write_kernel_run(write_run(tmp_path / "smoke"))
    for path in tmp_path.rglob("*.json"):
        if json.loads(path.read_text())["kind"] == {"retrieval": "benchmark", "kv-reduction": "benchmark"}.get(
            kind, kind
        ):
            path.unlink()
    run = open_run("smoke", tmp_path)
    with pytest.raises(ArtifactError) as caught:
        run.frame(kind)
    assert str(tmp_path / "smoke" / KINDS[kind].files) in str(caught.value)
    command = "snakemake --cores all --config experiment=config/smoke.yaml"
    if KINDS[kind].subject == KERNELS:
        command = "python -m longgen.profiling.gpu --name smoke" + " --only tuning" * (kind == "kernel-tuning")
    if kind == "attention-speed":
        command = "python -m longgen.profiling.cpu --name smoke"
    if kind == "training-speed":
        command = "longgen profile train --name smoke"
    if kind == "inference-speed":
        command = "longgen profile inference --name smoke"
    if kind == "serving-speed":
        command = "longgen profile serving MODEL --name smoke"
    if kind == "probe":
        command = "longgen probe MODEL --name smoke"
    if kind == "packing":
        command = "longgen pack CONFIG --output FOLDER --result results/smoke/packing.json"
    assert f"`{command}` makes it" in str(caught.value)


def test_absent_input_of_a_published_run_is_mended_by_publish(tmp_path: Path) -> None:
    write_run(tmp_path / "published/kept")
    (tmp_path / "published/kept/profile/speed.json").unlink()
    with pytest.raises(ArtifactError, match="longgen publish RUN --as kept --force"):
        open_run("published/kept", tmp_path).frame("speed")


def test_absent_run_and_bad_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no results"):
        open_run("nowhere", tmp_path)
    with pytest.raises(ConfigError, match="allowed is NAME or published/NAME"):
        open_run("a/b", tmp_path)


def test_broken_columns_are_named(tmp_path: Path) -> None:
    path = write_run(tmp_path / "smoke") / "profile/memory.json"
    value = json.loads(path.read_text())
    for record in value["records"]:
        del record["kv_fraction"]
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="column 'kv_fraction' is missing"):
        open_run("smoke", tmp_path).frame("memory")
    for record in value["records"]:
        record["kv_fraction"] = "a lot"
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="column 'kv_fraction' holds something that is not a number"):
        open_run("smoke", tmp_path).frame("memory")


def test_plan_without_a_setting_is_an_error(tmp_path: Path) -> None:
    path = write_run(tmp_path / "smoke") / "plan.json"
    value = json.loads(path.read_text())
    del value["settings"]["base_length"]
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="settings lack 'base_length'"):
        _ = open_run("smoke", tmp_path).plan


def test_variants_beyond_the_plan_come_last(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    old = folder / "benchmarks/all-sparse/scores.json"
    value = json.loads(old.read_text()) | {"variant": "another"}
    (folder / "benchmarks/another").mkdir()
    (folder / "benchmarks/another/scores.json").write_text(json.dumps(value))
    assert open_run("smoke", tmp_path).variants == (*DEFAULTS, "another")


def test_published_runs_are_found_and_temporary_folders_are_not(tmp_path: Path) -> None:
    for name in ("b", "a", ".a.half-written"):
        (tmp_path / "published" / name).mkdir(parents=True)
    assert published_runs(tmp_path) == ["published/a", "published/b"]
    assert published_runs(tmp_path / "nowhere") == []


def test_the_planners_own_results_file_is_read(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_settings()))
    experiment = load_experiment(config)
    records, settings = experiment_records(experiment), experiment_settings(experiment)
    save_result(tmp_path / "tiny/plan.json", Result("plan", "tiny", records, {}, settings=settings))
    run = open_run("tiny", tmp_path)
    assert run.plan.variants["ends"].layout == experiment.variant("ends").layout
    assert run.plan.variants["ends"].pattern == experiment.variant("ends").pattern
    assert run.plan.trained_length == 256
    assert run.model_name == "tiny"
    assert set(KINDS["plan"].column_names) <= set(run.plan.predictions.columns)


def test_every_kind_has_its_columns_in_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs/results-format.md"
    text = page.read_text("utf-8")
    for kind in (*KINDS, PUBLICATION):
        assert f"<!-- columns of {kind} -->" in text, kind
    assert with_tables(text, {}, str(page)) == text, "`make figures` writes them"
