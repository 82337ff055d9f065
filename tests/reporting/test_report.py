"""Writing everything of a run: files, bytes, what is left out, and that torch is never imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError, ConfigError
from longgen.reporting import EXPERIMENT, FIGURE_NAMES, KERNELS, TABLES
from longgen.reporting import report as report_module
from longgen.reporting.drawing import FORMATS
from longgen.reporting.figures import FIGURES
from longgen.reporting.report import PARTS, write_claims, write_report
from longgen.reporting.run import Run, open_run
from longgen.reporting.seeds.report import GROUP_PARTS
from longgen.reporting.style import paper_style
from tests.reporting.fake_kernels import write_kernel_run
from tests.reporting.fake_run import write_run


def files(figures: tuple[str, ...], tables: Iterable[str]) -> set[str]:
    pictures = {f"{name}.{extension}" for name in figures for extension in FORMATS}
    return pictures | {f"{name}.{extension}" for name in tables for extension in ("csv", "md")}


ASKED = (("needle", "perplexity"), ("benchmark_scores",))  # what fake_run has of benchmarks
ALL_FILES = files((*FIGURE_NAMES[EXPERIMENT], *ASKED[0]), (*TABLES[EXPERIMENT], *ASKED[1]))
KERNEL_FILES = files(FIGURE_NAMES[KERNELS], TABLES[KERNELS])


def test_every_name_is_of_one_part_that_can_be_made() -> None:
    names = [name for by_subject in (FIGURE_NAMES, TABLES) for part in by_subject.values() for name in part]
    assert len(names) == len(set(names))
    assert {*PARTS, *GROUP_PARTS} == set(names)


@pytest.fixture(scope="module")
def drawn(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    report = write_report(run, folder)
    assert not report.omissions
    assert {path.name for path in report.files} == ALL_FILES
    return folder


@pytest.fixture(scope="module")
def kernels_drawn(kernel_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    report = write_report(kernel_run, folder)
    assert not report.omissions, "an experiment's figures are no part of such a run"
    assert {path.name for path in folder.iterdir()} == KERNEL_FILES
    return folder


@pytest.mark.slow
def test_all_files_and_no_others(drawn: Path) -> None:
    assert {path.name for path in drawn.iterdir()} == ALL_FILES
    for path in drawn.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    for path in drawn.glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FIGURE_NAMES[EXPERIMENT], *ASKED[0], *FIGURE_NAMES[KERNELS]])
def test_csv_is_what_is_drawn(name: str, run: Run, kernel_run: Run, drawn: Path, kernels_drawn: Path) -> None:
    of_kernels = name in FIGURE_NAMES[KERNELS]
    with paper_style():
        data = FIGURES[name](kernel_run if of_kernels else run).data
    folder = kernels_drawn if of_kernels else drawn
    read = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    assert list(read.columns) == list(data.columns)
    flags = data.select_dtypes("boolean").columns  # missing ones are NA here, NaN in what was read
    read = read.astype(dict.fromkeys(flags, "boolean"))
    assert_frame_equal(read, data, check_dtype=False, rtol=1e-11, atol=0)


@pytest.mark.slow
def test_a_users_matplotlib_settings_change_nothing(run: Run, drawn: Path, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9}):
        write_report(run, tmp_path, ["kv"])
    assert (tmp_path / "kv.png").read_bytes() == (drawn / "kv.png").read_bytes()


def test_only(run: Run, tmp_path: Path) -> None:
    write_report(run, tmp_path, ["claims", "layouts"])
    assert {p.name for p in tmp_path.iterdir()} == {"claims.csv", "claims.md", *(f"layouts.{e}" for e in FORMATS)}
    with pytest.raises(ConfigError, match="--only is 'nonsense': allowed are pattern, layouts"):
        write_report(run, tmp_path, ["nonsense"])


NEEDS = {
    "profile/speed.json": {"speedup", "speed_by_length", "time_by_length"},
    "profile/memory.json": {"pareto", "kv"},
    "training": {"training"},
    "benchmarks": {"retrieval", "pareto", "task_scores", "task_scores_table"},
    "plan.json": {*FIGURE_NAMES[EXPERIMENT], *TABLES[EXPERIMENT]},
}


@pytest.mark.slow
@pytest.mark.parametrize("absent", NEEDS)
def test_what_cannot_be_drawn_is_left_out_and_named(
    absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "save_drawing", lambda drawing, folder, name: [folder / name])  # quicker
    path = write_run(tmp_path / "smoke") / absent
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    run, output = open_run("smoke", tmp_path), tmp_path / "out"
    output.mkdir()
    stale = output / f"{min(NEEDS[absent])}.png"
    stale.touch()
    report = write_report(run, output)
    if absent == "plan.json":  # what was asked stands by itself
        assert set(report.omissions) >= NEEDS[absent]
        assert not {*ASKED[0], *ASKED[1]} & set(report.omissions)
        return
    assert set(report.omissions) == NEEDS[absent]
    for name, why in report.omissions.items():
        assert "is missing: `snakemake" in why
        with pytest.raises(ArtifactError, match="is missing"):
            write_report(run, output, [name])
    assert not stale.exists(), "a figure of earlier results must not stay beside the new ones"


@pytest.mark.slow
def test_measurements_of_kernels_beside_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "save_drawing", lambda drawing, folder, name: [folder / name])  # quicker
    write_kernel_run(write_run(tmp_path / "smoke"))
    run = open_run("smoke", tmp_path)
    assert run.is_experiment
    assert run.variants == open_run("smoke", write_run(tmp_path / "other/smoke").parent).variants
    report = write_report(run, tmp_path / "out")
    assert not report.omissions
    assert {"kernels", "needle", "kernel_table.md", "claims.csv"} <= {path.name for path in report.files}
    shutil.rmtree(tmp_path / "smoke/kernels")
    stale = tmp_path / "out/kernels.png"
    stale.touch()
    write_report(open_run("smoke", tmp_path), tmp_path / "out")
    assert not stale.exists(), "a figure of earlier results must not stay beside the new ones"
    assert not (tmp_path / "out/kernel_table.md").exists()


def test_kernels_have_no_ablation_and_no_claims(kernel_run: Run, run: Run, results: Path, tmp_path: Path) -> None:
    for name in ("claims", "ablation", "needle", "layouts"):
        with pytest.raises(ArtifactError, match=r"is missing: kernels-gpu is no experiment"):
            write_report(kernel_run, tmp_path, [name])
    with pytest.raises(ArtifactError, match=r"no experiment, it measured kernels alone"):
        call("compare", "kernels-gpu", "--results", str(results))
    with pytest.raises(
        ArtifactError, match=r"kernel-speed\.json is missing: `python -m longgen.profiling.gpu --name smoke`"
    ):
        write_report(run, tmp_path, ["kernels"])


@pytest.mark.usefixtures("undrawn")
def test_kernels_among_published_runs(run: Run, tmp_path: Path) -> None:
    results, output = tmp_path / "results", tmp_path / "out"
    write_run(results / "published/first")
    write_kernel_run(results / "kernels-gpu")
    where = ("--results", str(results), "--output", str(output))
    write_claims([open_run("published/first", results)], tmp_path / "alone")
    call("publish", "kernels-gpu", "--as", "kernels-h100", *where)
    assert {path.name for path in (output / "published/kernels-h100").iterdir()} == KERNEL_FILES
    (output / "published/kernels-h100/kernel_table.md").unlink()
    for only in (("claims",), ("kernels", "layouts")):
        call("figures", "--all-published", *(f"--only={name}" for name in only), *where)
    for name in ("claims.csv", "claims.md"):
        ledger = (output / "published" / name).read_bytes()
        assert ledger == (tmp_path / "alone" / name).read_bytes(), "kernels change nothing in the ledger"
        assert not (output / "published/kernels-h100" / name).exists()
    assert not (output / "published/kernels-h100/kernel_table.md").exists(), "nobody asked for it"
    assert (output / "published/first/layouts.png").exists()
    assert not (output / "published/first/kernels.png").exists()
    with pytest.raises(ArtifactError, match="no experiment"):
        call("figures", "published/kernels-h100", "--all-published", "--only", "layouts", *where)


def call(*arguments: str) -> None:
    result = CliRunner().invoke(app, [*arguments])
    if result.exception:
        raise result.exception


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("kept", "profiled"), [("longgen-stride", True), ("full", False)])
def test_any_subset_of_variants(kept: str, profiled: bool, tmp_path: Path) -> None:
    for path in [*write_run(tmp_path / "smoke").glob("benchmarks/*"), *(tmp_path / "smoke/training").iterdir()]:
        if kept not in path.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not profiled:
        shutil.rmtree(tmp_path / "smoke/profile")
    report = write_report(open_run("smoke", tmp_path), tmp_path / "out")
    assert bool(report.omissions) == (not profiled)
    needle = pd.read_csv(tmp_path / "out/needle.csv")
    assert set(needle["variant"]) == {kept}


def test_claims_of_several_runs(run: Run, ablation_run: Run, tmp_path: Path) -> None:
    write_claims([run, ablation_run], tmp_path)
    rows = pd.read_csv(tmp_path / "claims.csv")
    assert set(rows["run"].dropna()) == {"smoke", "whole-ablation"}
    text = (tmp_path / "claims.md").read_text()
    assert "run smoke:" in text
    assert "run whole-ablation:" in text


@pytest.mark.slow
def test_same_results_same_bytes_without_torch_and_pyplot(
    results: Path, drawn: Path, kernels_drawn: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from longgen.cli import app\n"
        f"app(['figures', 'smoke', '--results', {str(results)!r}, '--output', {str(tmp_path)!r}], "
        "standalone_mode=False)\n"
        f"app(['compare', 'smoke', '--results', {str(results)!r}], standalone_mode=False)\n"
        f"app(['figures', 'kernels-gpu', '--results', {str(results)!r}, '--output', {str(tmp_path)!r}], "
        "standalone_mode=False)\n"
        "found = {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for run, folder in (("smoke", drawn), ("kernels-gpu", kernels_drawn)):
        for path in folder.iterdir():
            assert path.read_bytes() == (tmp_path / run / path.name).read_bytes(), path.name
    for path in drawn.glob("*.pdf"):
        assert b"CreationDate" not in path.read_bytes()


def test_tables_do_not_wait_for_matplotlib(results: Path) -> None:
    code = (
        "import sys\n"
        "from longgen.cli import app\n"
        f"app(['compare', 'smoke', '--results', {str(results)!r}], standalone_mode=False)\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
