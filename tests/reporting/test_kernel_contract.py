"""Results of kernels as reporting reads them: the columns that the command writes, their types, and no plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longgen.errors import ArtifactError
from longgen.profiling import cpu, gpu
from longgen.profiling.implementations import IMPLEMENTATIONS
from longgen.records.kinds import KINDS
from longgen.reporting import KERNELS
from longgen.reporting.kernel_measures import FLEX, OUR_KERNELS, copy_bandwidth, is_try
from longgen.reporting.report import write_report
from longgen.reporting.run import Run, open_run
from longgen.results import Result, save_result
from tests.reporting.fake_kernels import COPY as FAKE_COPY
from tests.reporting.fake_kernels import DAY, GPU, write_kernel_run

KERNEL_KINDS = [name for name, kind in KINDS.items() if kind.subject == KERNELS]


@pytest.fixture(scope="module")
def command_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What the command itself writes, with no time to measure anything but the device's limits."""
    folder = tmp_path_factory.mktemp("results")
    everything = ["--only", "checks", "--only", "speed", "--only", "tuning"]
    gpu.main(["--output", str(folder), "--device", "cpu", "--minutes", "1e-9", *everything])
    threads = torch.get_num_threads()
    sizes = ["--lengths", "128", "--heads", "1x8", "--repeats", "2"]
    cpu.main([*sizes, "--name", "kernels-cpu", "--output", str(folder)])
    torch.set_num_threads(threads)
    return open_run("kernels-cpu", folder)


@pytest.mark.parametrize("kind", KERNEL_KINDS)
def test_the_contract_is_what_the_command_writes(kind: str, command_run: Run, kernel_run: Run) -> None:
    for run in (command_run, kernel_run):
        assert sorted(run.frame(kind).columns) == sorted(KINDS[kind].column_names), "all of them, and no variant"
    path = command_run.folder / KINDS[kind].files
    assert json.loads(path.read_text())["kind"] == kind


def test_words_that_both_sides_use(command_run: Run, kernel_run: Run) -> None:
    assert {*OUR_KERNELS.values(), *FLEX} <= set(IMPLEMENTATIONS)
    assert copy_bandwidth(kernel_run) == FAKE_COPY
    assert is_try(command_run)
    assert not is_try(kernel_run)


def test_nothing_measured_is_drawn_and_written_as_such(command_run: Run, tmp_path: Path) -> None:
    report = write_report(command_run, tmp_path)
    assert not report.omissions
    assert (tmp_path / "kernels.csv").read_text().count("\n") == 1, "the header"
    text = (tmp_path / "kernel_table.md").read_text()
    assert "none of these times is a benchmark" in text
    assert "not measured: longgen: no time left (4)" in text


def test_such_a_run_has_neither_plan_nor_variants(kernel_run: Run, run: Run) -> None:
    assert kernel_run.subjects == ("kernels",)
    assert not kernel_run.is_experiment
    assert run.subjects == ("benchmarks", "experiment")
    assert run.is_experiment
    assert kernel_run.device("kernel-speed") == GPU
    assert kernel_run.days("kernel-speed", "device-limits") == DAY
    assert kernel_run.days("speed") == ""
    assert kernel_run.settings("kernel-speed") == {"dtype": "bfloat16", "tiny": False}
    assert kernel_run.settings("speed") == {}
    with pytest.raises(
        ArtifactError, match=r"plan\.json is missing: kernels-gpu is no experiment, it measured kernels alone"
    ):
        _ = kernel_run.plan
    assert kernel_run.frame("kernel-checks")["passed"].isna().sum() == 1, "null is not false"


def test_a_run_with_nothing_yet_is_an_experiment(tmp_path: Path) -> None:
    save_result(tmp_path / "new/corpus.json", Result("corpus", "new", [], {}))
    with pytest.raises(ArtifactError, match=r"plan\.json is missing: `snakemake"):
        _ = open_run("new", tmp_path).plan


def _drop(column: str) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.pop(column)


def _set(column: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({column: value})


@pytest.mark.parametrize(
    ("kind", "change", "error"),
    [
        ("device-limits", _drop("value"), "column 'value' is missing"),
        ("device-limits", _set("value", "much"), "column 'value' holds something that is not a number"),
        ("kernel-checks", _drop("tensor"), "column 'tensor' is missing"),
        ("kernel-checks", _set("passed", "yes"), "column 'passed' holds something that is not true, false or null"),
        ("kernel-checks", _set("passed", 1), "column 'passed' holds something that is not true, false or null"),
        ("kernel-checks", _set("passed", None), "column 'passed' is null in a record of status 'measured'"),
        ("kernel-speed", _drop("ideal_from"), "column 'ideal_from' is missing"),
        ("kernel-speed", _set("seconds_high", None), "column 'seconds_high' is null in a record of status 'measured'"),
        ("kernel-speed", _set("bytes_per_second", None), "column 'bytes_per_second' is null in a record"),
        ("kernel-speed", _set("status", "done"), "status is 'done': allowed are measured, unsupported, failed, not"),
        ("kernel-speed", _set("status", None), "status is 'n"),  # null or NaN
        ("kernel-speed", _set("length", "128K"), "column 'length' holds something that is not a number"),
        ("kernel-tuning", _drop("warps"), "column 'warps' is missing"),
        ("kernel-tuning", _set("seconds", None), "column 'seconds' is null in a record of status 'measured'"),
    ],
)
def test_broken_columns_are_named(kind: str, change: Callable[[Any], None], error: str, tmp_path: Path) -> None:
    path = write_kernel_run(tmp_path / "kernels-gpu") / KINDS[kind].files
    value = json.loads(path.read_text())
    for record in value["records"]:
        if error.endswith("is missing") or record.get("status", "measured") == "measured":
            change(record)
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=error) as caught:
        open_run("kernels-gpu", tmp_path).frame(kind)
    assert str(path) in str(caught.value)


def test_what_was_not_measured_may_be_null(tmp_path: Path) -> None:
    rows = open_run("kernels-gpu", write_kernel_run(tmp_path / "kernels-gpu").parent).frame("kernel-speed")
    blank = rows[rows["status"] != "measured"]
    assert set(blank["status"]) == {"unsupported", "failed"}
    assert blank[["n", "seconds", "speedup", "bytes_per_second"]].isna().all(axis=None)
    assert blank["flops"].notna().all()


def test_absent_copy_bandwidth_is_an_error(tmp_path: Path) -> None:
    path = write_kernel_run(tmp_path / "kernels-gpu") / KINDS["device-limits"].files
    value = json.loads(path.read_text())
    value["records"] = value["records"][1:]
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=r"device-limits\.json is missing: `python -m longgen\.profiling\.gpu"):
        copy_bandwidth(open_run("kernels-gpu", tmp_path))
