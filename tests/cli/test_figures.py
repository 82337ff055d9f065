"""`longgen figures`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError, ConfigError
from tests.reporting.fake_run import write_run


def call(*arguments: str, fails: bool = False) -> str:
    result = CliRunner().invoke(app, ["figures", *arguments])
    if result.exception and not (fails and result.exit_code):
        raise result.exception
    return result.output


def test_draws_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "results/smoke")
    monkeypatch.chdir(tmp_path)
    output = call("smoke", "--only", "layouts", "--only", "ablation")
    assert "paper_figures/smoke: 5 files" in output
    assert {path.name for path in (tmp_path / "paper_figures/smoke").iterdir()} == {
        *("layouts.png", "layouts.pdf", "layouts.csv"),
        *("ablation.csv", "ablation.md"),
    }


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_names_what_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "results/smoke")
    (folder / "profile/memory.json").unlink()
    output = call("smoke", "--results", str(tmp_path / "results"), "--output", str(tmp_path / "out"))
    assert "without kv: " in output
    assert "memory.json is missing: `snakemake --cores all --config experiment=config/smoke.yaml` makes it" in output


def test_an_asked_for_figure_that_cannot_be_drawn_is_an_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "results/smoke")
    (folder / "profile/memory.json").unlink()
    with pytest.raises(ArtifactError, match=r"memory\.json is missing"):
        call("smoke", "--only", "kv", "--results", str(tmp_path / "results"), "--output", str(tmp_path / "out"))


def test_all_published_and_their_common_ledger(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_run(tmp_path / "results/published" / name)
    output = tmp_path / "out"
    call("--all-published", "--only", "claims", "--results", str(tmp_path / "results"), "--output", str(output))
    assert (output / "published/first/claims.csv").exists()
    text = (output / "published/claims.csv").read_text()
    assert "published/first" in text
    assert "published/second" in text


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run is given"):
        call("--results", str(tmp_path))
