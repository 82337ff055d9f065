"""From loads that an engine ran to a results file, a figure and a table; the engine is a stand-in, and says so."""

from pathlib import Path

import pytest

from longgen.cli.options.profiling import ProfileServingOptions
from longgen.errors import ConfigError
from longgen.layout import make_layout
from longgen.pattern import SparsePattern
from longgen.profiling import serving_speed
from longgen.profiling.serving_speed import ServingSpeed
from longgen.profiling.session import Budget, Session
from longgen.reporting.claims import ledger
from longgen.reporting.report import write_report
from longgen.reporting.run import open_run
from longgen.serving.vllm.load import Load, LoadMeasurement

LOADS = [Load(length, 64, requests, 2**28, 512, "bfloat16") for length, requests in ((16384, 5), (8192, 8))]


@pytest.fixture
def run(tmp_path, monkeypatch):
    asked = []

    def fake(folder: Path, load: Load, block_size: int, changes: dict) -> LoadMeasurement:
        assert block_size == 64
        asked.append((load.length, changes))
        full = bool(changes)
        fit = 2**15 / load.length * (1 if full else 2.5)
        bytes_of_one = load.length * (23040 if full else 9000)
        waited = [10.0 * (number + 1) for number in range(load.requests)]
        return LoadMeasurement(fit, int(fit), 0, bytes_of_one, 300.0 if full else 200.0, waited)

    monkeypatch.setattr(serving_speed, "serve", fake)
    monkeypatch.setattr(serving_speed, "engine_version", lambda: "stand-in 0")
    hybrid = serving_speed.Hybrid(make_layout(30, "1/3"), SparsePattern())
    stage = ServingSpeed(serving_speed.ServedModel(tmp_path, "small", hybrid, "base 10,000"))
    session = Session(stage, tmp_path, "serving", Budget(1000))
    session.run(LOADS)
    return tmp_path, session, asked


def test_each_load_runs_with_all_layers_full_and_as_the_hybrid(run):
    folder, session, asked = run
    assert [length for length, _ in asked] == [16384, 16384, 8192, 8192]
    assert [set(changes.get("longgen", {}).get("layout", [])) for _, changes in asked] == [{"full"}, set()] * 2
    rows = open_run("serving", folder).frame("serving-speed").set_index(["length", "full_layers"])
    assert rows.loc[(16384, 10), "speedup"] == pytest.approx(1.5) and rows.loc[(16384, 30), "speedup"] == 1
    assert rows.loc[(8192, 10), "tokens_per_second"] == pytest.approx(8 * 64 / 200)
    assert "16,384" in session.table() and "5.00" in session.table()
    session.run(LOADS)
    assert len(asked) == 4, "what an earlier session measured stays"


def test_figure_and_table_compare_with_full_attention(run):
    folder, *_ = run
    report = write_report(open_run("serving", folder), folder / "figures")
    assert not report.omissions
    text = (folder / "figures" / "serving_speed.md").read_text()
    (row,) = [line for line in text.splitlines() if "16,384 + 64" in line and "10/30" in line]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[6] == "5.00 (2.50\u00d7)" and cells[8] == "39.1 %" and cells[10].startswith("1.50\u00d7")
    drawn = (folder / "figures" / "serving.csv").read_text().splitlines()
    assert len(drawn) == 1 + 4


def test_the_ledger_compares_sequences_with_what_the_pattern_keeps(run):
    rows = ledger([open_run("serving", run[0])])
    rows = rows[(rows["claim"] == "sequences-in-memory") & rows["measured"].notna()].set_index("scale")
    assert list(rows.index) == ["small @ 16384", "small @ 8192"] and set(rows["variant"]) == {"longgen-sink"}
    assert rows.loc["small @ 16384", "measured"] == pytest.approx(2.5)
    kept = 64 + 15 * 64 + 64  # the last token stands at the end of a block
    ideal = 30 * 16448 / (10 * 16448 + 20 * kept)
    assert rows.loc["small @ 16384", "ideal"] == pytest.approx(ideal)
    assert list(rows["verdict"]) == ["share not reached", "share reached"], "2.5 of 2.67 and of 2.40 times"


@pytest.mark.parametrize("load", ["8192", "8192x", "x8", "0x8", "8192x8x8"])
def test_a_load_is_tokens_and_requests(load):
    with pytest.raises(ConfigError, match=r"--load is .* TOKENSxREQUESTS, such as 8192x8"):
        ProfileServingOptions(model=Path("model"), kv_gib=1.0, load=[load])
