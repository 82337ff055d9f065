"""`longgen compare`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError, ConfigError
from longgen.reporting.comparison import COLUMNS
from tests.reporting.fake_run import ABLATION, DEFAULTS, kv_fraction, write_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_run(tmp_path / "smoke")
    write_run(tmp_path / "published/all", ABLATION)
    (tmp_path / "published/all/profile/memory.json").unlink()
    return tmp_path


def call(results: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["compare", *arguments, "--results", str(results)])
    if result.exception:
        raise result.exception
    return result.output


def test_tables_have_variants_values_and_intervals(results: Path) -> None:
    output = call(results, "smoke", "published/all")
    assert "smoke: smoke at 2K tokens" in output
    assert "published/all: smoke at 2K tokens" in output
    assert "0.91 (0.84\u20130.95)" in output
    for name in ABLATION:
        assert name in output
    first, second = output.split("published/all: ")
    assert "KV cache \u2503" in first
    assert "KV cache \u2503" not in second, "nothing was measured: no column"


def test_json(results: Path) -> None:
    rows = json.loads(call(results, "smoke", "published/all", "--json"))
    assert [row["run"] for row in rows] == ["smoke"] * 4 + ["published/all"] * 10
    assert list(rows[0]) == ["run", *COLUMNS]
    assert rows[1]["kv_fraction"] == kv_fraction("longgen-sink", 2048)
    assert rows[5]["kv_fraction"] is None
    assert rows[0]["needle_n"] == 100


def test_csv(results: Path) -> None:
    rows = pd.read_csv(io.StringIO(call(results, "smoke", "--csv")))
    assert list(rows.columns) == ["run", *COLUMNS]
    assert list(rows["variant"]) == list(DEFAULTS)


def test_errors(results: Path) -> None:
    with pytest.raises(ConfigError, match="--json and --csv"):
        call(results, "smoke", "--json", "--csv")
    with pytest.raises(ArtifactError, match="holds no results"):
        call(results, "nowhere")
    for path in (results / "smoke").rglob("*.json"):
        if path.name != "plan.json":
            path.unlink()
    with pytest.raises(ArtifactError, match=r"retrieval\.json is missing"):
        call(results, "smoke")
