"""`longgen publish`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ConfigError
from tests.reporting.fake_run import write_run


def call(folder: Path, *arguments: str) -> str:
    where = ["--results", str(folder / "results"), "--output", str(folder / "figures")]
    result = CliRunner().invoke(app, ["publish", *arguments, *where])
    if result.exception:
        raise result.exception
    return result.output


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_publishes_warns_draws_and_refreshes_the_ledger(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "results/smoke", dirty=True)
    for name in ("benchmarks", "training"):  # fewer figures to wait for
        shutil.rmtree(folder / name)
    output = call(tmp_path, "smoke", "--as", "smoke-cpu")
    files = len(list((tmp_path / "results/smoke").rglob("*.json")))
    assert f"warning: {files} of {files} files were made with uncommitted changes" in output
    assert (tmp_path / "results/published/smoke-cpu/plan.json").exists()
    assert (tmp_path / "figures/published/smoke-cpu/kv.png").exists()
    assert "published/smoke-cpu" in (tmp_path / "figures/published/claims.csv").read_text()
    with pytest.raises(ConfigError, match="--force"):
        call(tmp_path, "smoke", "--as", "smoke-cpu")
    call(tmp_path, "smoke", "--as", "smoke-cpu", "--force")
