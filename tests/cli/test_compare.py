"""`longgen compare`."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError, ConfigError
from longgen.reporting.ablation import READABLE_COLUMNS
from longgen.reporting.comparison import COLUMNS, comparison_table
from longgen.reporting.run import open_run
from tests.reporting.fake_reductions import KEPT, write_reductions
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
    write_run(results / "third")
    output = call(results, "smoke", "published/all", "third")
    assert "smoke: smoke at 2K tokens" in output
    assert "published/all: smoke at 2K tokens" in output
    assert "0.91 (0.84\u20130.95)" in output
    for name in ABLATION:
        assert name in output
    first, second = output.split("published/all: ")
    second = second.split("third: ")[0]
    assert "KV cache  " in first
    assert "KV cache  " not in second, "nothing was measured: no column"


def rows_of(output: str) -> dict[tuple[str, str], list[str]]:
    """Variant and quantity -> the cells beside them."""
    lines = [re.split(r" {2,}", line) for line in output.splitlines()]
    return {(cells[0], cells[1]): cells[2:] for cells in lines if len(cells) > 2 and cells[1] in READABLE_COLUMNS}


def test_two_runs_stand_side_by_side_with_their_difference(results: Path) -> None:
    write_reductions(results / "smoke")
    path = results / "published/all/benchmarks/longgen-sink/scores.json"
    told = json.loads(path.read_text())
    for record in told["records"]:  # half of what was found
        record["score"] /= 2
    path.write_text(json.dumps(told))
    output = call(results, "smoke", "published/all")
    assert output.startswith("A = smoke: smoke at 2K tokens; B = published/all: smoke at 2K tokens\n")
    rows = rows_of(output)
    tables = [comparison_table(open_run(name, results)) for name in ("smoke", "published/all")]
    a, b = (table.set_index("variant").loc["longgen-sink"] for table in tables)
    low = b["needle_exact"] - a["needle_exact"]
    low -= math.hypot(b["needle_exact"] - b["needle_exact_low"], a["needle_exact_high"] - a["needle_exact"])
    values = rows["longgen-sink", "needle"]
    assert values[0] == "0.91 (0.84\u20130.95)"
    assert values[2].startswith(f"{b['needle_exact'] - a['needle_exact']:+.2f} ({low:+.2f} to ")
    assert rows["full", "perplexity"][2].startswith("+0.00 (-")
    assert rows["longgen-sink", "KV cache"] == [f"{kv_fraction('longgen-sink', 2048):.1%}"], "B has none"
    assert ("full, snapkv to the bytes of longgen-sink", "needle") in rows
    assert ("ends-1-3", "needle") in rows, "what only B has"
    by = call(results, "smoke", "published/all", "--by", "pattern")
    assert "; by pattern\n" in by
    assert {name for name, _ in rows_of(by)} == {"full", "longgen-sink", "longgen-stride"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 60, 80])
def test_both_values_and_their_difference_stand_together_in_a_narrow_terminal(results, width, monkeypatch) -> None:
    write_reductions(results / "smoke")
    names = ("smoke", "published/all")
    wide = rows_of(call(results, *names))
    monkeypatch.setattr("longgen.tables.terminal_width", lambda: width)
    lines = [line.strip() for line in call(results, *names).splitlines()]
    assert all(len(line) <= width for line in lines)
    for cells in [cells for cells in wide.values() if len(cells) == 3]:
        beside = any(re.split(r" {2,}", line)[-3:] == cells for line in lines)
        block = [f"{name}: {cell}" for name, cell in zip(("A", "B", "B - A"), cells, strict=True)]
        assert beside or any(lines[at : at + 3] == block for at in range(len(lines))), cells
    if width > 40:
        assert sum(line.split() == ["A", "B", "B", "-", "A"] or line.endswith("B - A") for line in lines) == 1, (
            "one table"
        )


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


def test_reductions_stand_beside_what_was_trained(results: Path) -> None:
    write_reductions(results / "smoke")
    rows = json.loads(call(results, "smoke", "--json"))
    assert [row["what"] for row in rows] == ["trained"] * 4 + ["reduced at inference"] * 4
    names = [(row["variant"], row["method"], row["budget_of"]) for row in rows[3:7]]
    assert names == [
        ("all-sparse", None, None),
        ("full", "snapkv", "longgen-sink"),  # in the order of all tables
        ("full", "tova", "longgen-sink"),
        ("full", "snapkv", "longgen-stride"),
    ]
    snapkv = rows[4]
    assert (snapkv["needle_exact"], snapkv["multikey_exact"], snapkv["needle_n"]) == (0.6, 0.15, 20)
    assert (snapkv["kv_fraction"], snapkv["full_layers"]) == (KEPT["longgen-sink"], 6)
    assert snapkv["perplexity"] is snapkv["prefill_speedup"] is None, "never measured"
    output = call(results, "smoke")
    assert "full, snapkv" in output
    assert "reduced at inference" in output


@pytest.mark.parametrize(
    ("by", "variants"),
    [
        ("ratio", ["full", "middle-1-2", "longgen-sink", "middle-1-6", "all-sparse"]),
        ("placement", ["full", "longgen-sink", "ends-1-3", "bottom-1-3", "top-1-3", "interleaved-1-3"]),
        ("pattern", ["full", "longgen-sink", "longgen-stride"]),
        ("baseline", ["full", "longgen-sink", "all-sparse", *["full"] * 4]),
    ],
)
def test_by_ablation(results: Path, by: str, variants: list[str]) -> None:
    write_reductions(results / "published/all")
    rows = json.loads(call(results, "published/all", "--json", "--by", by))
    assert [row["variant"] for row in rows] == variants
    assert {row["by"] for row in rows} == {by}


def test_several_ablations_are_several_tables(results: Path) -> None:
    output = call(results, "published/all", "--by", "pattern", "--by", "placement")
    first, second = output.split("tokens, by placement")
    assert "by pattern" in first
    assert "longgen-stride" in first
    assert "longgen-stride" not in second
    with pytest.raises(ConfigError, match="--by is 'size': allowed are ratio, placement, pattern, baseline"):
        call(results, "smoke", "--by", "size")


def test_errors(results: Path) -> None:
    with pytest.raises(ConfigError, match="--json and --csv"):
        call(results, "smoke", "--json", "--csv")
    with pytest.raises(ArtifactError, match="holds no results"):
        call(results, "nowhere")
    for names in (("smoke", "smoke"), ("smoke", "published/all", "smoke")):
        with pytest.raises(ConfigError, match=r"smoke and smoke are the same run, .*smoke: allowed are different ones"):
            call(results, *names)
    for path in (results / "smoke").rglob("*.json"):
        if path.name != "plan.json":
            path.unlink()
    with pytest.raises(ArtifactError, match=r"scores\.json is missing"):
        call(results, "smoke")
