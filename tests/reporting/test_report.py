"""Writing everything of a run: files, bytes, what is left out, and that torch is never imported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from longgen.errors import ArtifactError, ConfigError
from longgen.reporting import report as report_module
from longgen.reporting.drawing import FORMATS
from longgen.reporting.figures import FIGURES
from longgen.reporting.report import PARTS, write_claims, write_report
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import paper_style
from tests.reporting.fake_run import write_run

ALL_FILES = {f"{name}.{extension}" for name in FIGURES for extension in FORMATS} | {
    f"{name}.{extension}" for name in ("ablation", "claims") for extension in ("csv", "md")
}


@pytest.fixture(scope="module")
def drawn(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    report = write_report(run, folder)
    assert not report.skipped
    assert {path.name for path in report.written} == ALL_FILES
    return folder


def test_all_files_and_no_others(drawn: Path) -> None:
    assert {path.name for path in drawn.iterdir()} == ALL_FILES
    for path in drawn.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    for path in drawn.glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", FIGURES)
def test_csv_is_what_is_drawn(name: str, run: Run, drawn: Path) -> None:
    with paper_style():
        data = FIGURES[name](run).data
    read = pd.read_csv(drawn / f"{name}.csv", keep_default_na=False, na_values=[""])
    assert list(read.columns) == list(data.columns)
    assert_frame_equal(read, data, check_dtype=False, check_exact=True)


def test_same_results_same_bytes(run: Run, drawn: Path, tmp_path: Path) -> None:
    write_report(run, tmp_path)
    for path in drawn.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    for path in drawn.glob("*.pdf"):
        assert b"CreationDate" not in path.read_bytes()


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
    "profile/speed.json": {"ratio_ablation", "speedup", "speed_by_length"},
    "profile/memory.json": {"ratio_ablation", "kv"},
    "training": {"training"},
    "evaluation": {"needle", "retrieval", "perplexity", "ratio_ablation"},
    "plan.json": set(PARTS),
}


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
    if absent == "plan.json":
        with pytest.raises(ArtifactError, match=r"plan\.json is missing"):
            write_report(run, output)
        return
    report = write_report(run, output)
    assert set(report.skipped) == NEEDS[absent]
    for name, why in report.skipped.items():
        assert "is missing: `snakemake" in why
        with pytest.raises(ArtifactError, match="is missing"):
            write_report(run, output, [name])
    assert not stale.exists(), "a figure of earlier results must not stay beside the new ones"


def test_any_subset_of_variants(tmp_path: Path) -> None:
    for path in [*write_run(tmp_path / "smoke").glob("evaluation/*"), *(tmp_path / "smoke/training").iterdir()]:
        if "longgen-stride" not in path.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = write_report(open_run("smoke", tmp_path), tmp_path / "out")
    assert not report.skipped
    needle = pd.read_csv(tmp_path / "out/needle.csv")
    assert set(needle["variant"]) == {"longgen-stride"}


def test_claims_of_several_runs(run: Run, ablation_run: Run, tmp_path: Path) -> None:
    write_claims([run, ablation_run], tmp_path)
    rows = pd.read_csv(tmp_path / "claims.csv")
    assert set(rows["run"].dropna()) == {"smoke", "whole-ablation"}
    text = (tmp_path / "claims.md").read_text()
    assert "run smoke:" in text
    assert "run whole-ablation:" in text


def test_no_torch_and_no_pyplot(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from longgen.cli import app\n"
        f"app(['figures', 'smoke', '--results', {str(results)!r}, '--output', {str(tmp_path)!r}], "
        "standalone_mode=False)\n"
        f"app(['compare', 'smoke', '--results', {str(results)!r}], standalone_mode=False)\n"
        "found = {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (tmp_path / "smoke/claims.md").exists()


def test_tables_do_not_wait_for_matplotlib(results: Path) -> None:
    code = (
        "import sys\n"
        "from longgen.cli import app\n"
        f"app(['compare', 'smoke', '--results', {str(results)!r}], standalone_mode=False)\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
