"""Figure and table of `longgen pack`: against the command's own results, and value by value against made-up ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.text import Text
from typer.testing import CliRunner

from longgen.cli import app
from longgen.data.packing.report import COUNTS
from longgen.errors import ArtifactError
from longgen.records.kinds import KINDS
from longgen.reporting.drawing import Drawing, settle_layout
from longgen.reporting.figures import FIGURES
from longgen.reporting.figures.packing import COLORS, MOST
from longgen.reporting.packing_table import ARROW, packing_markdown, packing_table
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import paper_style
from longgen.results import Result, save_result
from tests.data.packing.corpora import DOMAINS, documents, slimpajama, write_jsonl
from tests.reporting.fake_run import write_run
from tests.reporting.test_look import assert_looks_right

Record = dict[str, Any]
FILES = {"packing.png", "packing.pdf", "packing.csv", "packing_table.csv", "packing_table.md"}
DEVICE, DAY = "Pretend CPU", "2031-05-07"
THRESHOLD = 4096
EDGES = [0, 1024, 2048, 4096, 8192, 16384]


def record(domain: str | None, low: int | None, high: int | None, **counts: float) -> Record:
    blank = {"seconds": None, "tokens_per_second": None, "workers": None}
    return {"domain": domain, "length_low": low, "length_high": high} | dict.fromkeys(COUNTS, 0) | blank | counts


def records(tokens: dict[str, dict[int, tuple[int, int, int]]], bad: dict[str, int] | None = None) -> list[Record]:
    """Records of a packing.

    Args:
        tokens: by domain and lower end of a length bucket: tokens read, of these duplicates, tokens used.
        bad: records that were no documents, by source.
    """
    highs = dict(zip(EDGES, [*EDGES[1:], None], strict=True))
    rows = [
        record(
            *(domain, low, highs[low]),
            documents_read=9,
            tokens_read=read,
            documents_duplicate=2 * bool(duplicate),
            tokens_duplicate=duplicate,
            documents_used=3,
            tokens_used=used,
            tokens_wasted=used // 10,
        )
        for domain, lengths in tokens.items()
        for low, (read, duplicate, used) in lengths.items()
    ]
    rows += [record(source, None, None, bad_records=count) for source, count in (bad or {}).items()]
    total = {column: sum(row[column] for row in rows) for column in COUNTS}
    times = {"seconds": 40.0, "tokens_per_second": total["tokens_read"] / 40, "workers": 2}
    return [*rows, record(None, None, None, **total, **times)]


def packing_run(folder: Path, rows: list[Record], **settings: Any) -> Run:
    given = {"method": "per-source", "lengths": [131072], "tokenizer": "bytes"}
    given["upsampling"] = {"threshold": THRESHOLD, "factor": 10.0, "share": None, "max_repeats": 1}
    origin = {"date": f"{DAY}T08:00:00+00:00", "device": {"kind": "cpu", "name": DEVICE}}
    save_result(folder / "packed/packing.json", Result("packing", "packed", rows, origin, settings=given | settings))
    return open_run("packed", folder)


BOOKS = {0: (100, 0, 20), 1024: (300, 100, 30), 4096: (500, 0, 250), 16384: (200, 0, 200)}
WEB = {0: (1500, 0, 150), 2048: (1000, 500, 200), 8192: (1000, 0, 400)}
UNUSED = {1024: (700, 700, 0)}  # all of it duplicates
TOKENS = {"books": BOOKS, "unused": UNUSED, "web": WEB}
BEFORE = {"web": 3000, "books": 1000, "unused": 0}
AFTER = {"web": 750, "books": 500, "unused": 0}


@pytest.fixture
def fake(tmp_path: Path) -> Run:
    return packing_run(tmp_path, records(TOKENS, {"crawl": 7, "books": 2}))


def draw(run: Run) -> Drawing:
    with paper_style():
        drawing = FIGURES["packing"](run)
        settle_layout(drawing.figure)
    return drawing


def heights(axes: Axes) -> dict[str, dict[int, float]]:
    """By colour, the bars' values by place: bucket, or line of the mixture."""
    found: dict[str, dict[int, float]] = {}
    for bars in axes.containers:
        assert isinstance(bars, BarContainer)
        flat = bars.orientation == "horizontal"
        values = {}
        for bar in bars.patches:
            middle = bar.get_y() + bar.get_height() / 2 if flat else bar.get_x() + bar.get_width() / 2
            values[round(middle)] = bar.get_width() if flat else bar.get_height()
        found[to_hex(bars.patches[0].get_facecolor())] = values
    return found


def panel(drawing: Drawing, title: str) -> Axes:
    (found,) = [axes for axes in drawing.figure.axes if axes.get_title() == title]
    return found


GREY, BLUE = (color.lower() for color in COLORS.values())


# the command's own results


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with what the command wrote: nine duplicates, three bad records."""
    folder = tmp_path_factory.mktemp("packing")
    written = documents(400)
    again = [slimpajama(each["text"], each["meta"]["redpajama_set_name"]) for each in written[:9]]
    corpus = write_jsonl(folder / "corpus.jsonl", [*written, *again, {}, {"text": 3}, {"text": ""}])
    source = {"name": "corpus", "kind": "jsonl", "path": str(corpus), "source_field": "meta.redpajama_set_name"}
    chosen = {"name": "packed", "sources": [source], "tokenizer": "bytes", "method": "per-source", "lengths": [128]}
    chosen |= {"token_budget": 16_000, "upsampling": {"threshold": 64, "factor": 5}, "max_bad_fraction": 0.1}
    (folder / "packed.yaml").write_text(yaml.safe_dump(chosen))
    result = folder / "results/packed/packing.json"
    call("pack", str(folder / "packed.yaml"), "--output", str(folder / "rows"), "--result", str(result))
    return folder / "results"


def call(*arguments: str) -> str:
    return CliRunner().invoke(app, arguments, catch_exceptions=False).output


def test_the_contract_is_what_the_command_writes(command: Path) -> None:
    run = open_run("packed", command)
    assert sorted(run.frame("packing").columns) == sorted(KINDS["packing"].column_names), "all of them, and no variant"
    assert command / "packed" / KINDS["packing"].files in command.rglob("*.json")
    table = packing_table(run).set_index("domain")
    assert set(table.index[:-1]) == {*DOMAINS, "corpus"}
    total = table.loc[None]
    assert (total["documents_read"], total["documents_duplicate"], total["bad_records"]) == (409, 9, 3)
    assert total["tokens_used"] == 16_000 == table["tokens_used"].iloc[:-1].sum()
    for domain in DOMAINS:
        assert table.loc[domain, "share_after"] == pytest.approx(table.loc[domain, "share_before"], abs=1e-4)
        n = table.loc[domain, "long_before"]  # docs/long-data.md
        assert table.loc[domain, "long_after"] == pytest.approx(5 * n / (5 * n + 1 - n), abs=1e-3)


def test_figures_and_publish_of_such_a_run(command: Path, tmp_path: Path) -> None:
    where = ("--results", str(command), "--output", str(tmp_path))
    assert "without" not in call("figures", "packed", *where), "an experiment's parts are no part of such a run"
    assert {path.name for path in (tmp_path / "packed").iterdir()} == FILES
    call("publish", "packed", "--as", "packing-cpu", *where)
    for path in (tmp_path / "published/packing-cpu").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "packed" / path.name).read_bytes()
    assert "packing" not in (tmp_path / "published/claims.md").read_text()
    with pytest.raises(ArtifactError, match=r"plan\.json is missing: packed is no experiment, it measured packing"):
        call("figures", "packed", "--only", "claims", *where)


def test_csv_is_what_is_drawn(command: Path, tmp_path: Path) -> None:
    call("figures", "packed", "--only", "packing", "--results", str(command), "--output", str(tmp_path))
    data = FIGURES["packing"](open_run("packed", command)).data
    read = pd.read_csv(tmp_path / "packed/packing.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(read, data, check_dtype=False, rtol=1e-11, atol=0)


def test_a_packing_beside_an_experiment(tmp_path: Path) -> None:
    packing_run(tmp_path, records(TOKENS))
    write_run(tmp_path / "packed")
    run = open_run("packed", tmp_path)
    assert run.subjects == ("benchmarks", "experiment", "packing")
    assert run.variants == open_run("smoke", write_run(tmp_path / "other/smoke").parent).variants


# the table


def test_table_by_domain(fake: Run) -> None:
    table = packing_table(fake)
    assert table["domain"].tolist()[:2] == ["web", "books"], "the largest first"
    assert table["domain"].isna().tolist() == [False] * 4 + [True]
    rows = table.set_index(table["domain"].fillna("all"))
    assert rows["tokens_read"].to_dict() == {"web": 3500, "books": 1100, "unused": 700, "crawl": 0, "all": 5300}
    assert rows["tokens_duplicate"].to_dict() == {"web": 500, "books": 100, "unused": 700, "crawl": 0, "all": 1300}
    assert rows["bad_records"].to_dict() == {"web": 0, "books": 2, "unused": 0, "crawl": 7, "all": 9}
    assert rows.loc["web", ["share_before", "share_after"]].tolist() == [0.75, 0.6]
    assert rows.loc["books", ["long_before", "long_after"]].tolist() == [0.7, 0.9]
    assert rows.loc["all", ["long_before", "long_after"]].tolist() == [1700 / 4000, 850 / 1250]
    assert rows.loc["unused", ["long_before", "long_after"]].isna().all()
    assert rows.loc["all", ["seconds", "tokens_per_second", "workers"]].tolist() == [40, 132.5, 2]
    assert rows["seconds"].notna().sum() == 1


def test_table_to_read(fake: Run) -> None:
    text = packing_markdown(fake, packing_table(fake))
    for words in (
        "# Packing: packed",
        "Method per-source, factor 10; rows of 131,072 tokens; tokenizer bytes. Long documents have at least 4,096",
        "5,300 tokens were read, tokenised and packed in 40.0 s: **132 tokens per second** with 2 worker process(es)",
        f"{DEVICE}; {DAY}",
    ):
        assert words in text
    lines = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if line.startswith("| ")
    }
    assert lines["books"] == [
        *(f"36 {ARROW} 12", f"1,100 {ARROW} 500", f"25.0 % {ARROW} 40.0 %", f"70.0 % {ARROW} 90.0 %"),
        *("2", "100", "50 (9.09 %)", "2"),
    ]
    assert lines["unused"][3] == f"- {ARROW} -"
    assert lines["crawl"][-1] == "7"
    assert lines["all"][1:3] == [f"5,300 {ARROW} 1,250", f"100.0 % {ARROW} 100.0 %"]


def test_what_was_asked_for_is_named(tmp_path: Path) -> None:
    upsampling = {"threshold": THRESHOLD, "factor": None, "share": 0.7, "max_repeats": 4}
    run = packing_run(tmp_path, records(TOKENS), upsampling=upsampling, lengths=[2048, 4096])
    text = packing_markdown(run, packing_table(run))
    assert "Method per-source, share 0.7; rows of 2,048, 4,096 tokens" in text


# the figure


def test_bars_are_shares_before_and_after(fake: Run) -> None:
    drawing = draw(fake)
    assert [axes.get_title() for axes in drawing.figure.axes if axes.axison] == [
        *("mixture", "all domains", "web", "books", "unused")
    ]
    assert heights(panel(drawing, "mixture")) == {
        GREY: pytest.approx({0: 75, 1: 25, 2: 0}),
        BLUE: pytest.approx({0: 60, 1: 40, 2: 0}),
    }
    assert [label.get_text() for label in panel(drawing, "mixture").get_yticklabels()] == ["web", "books", "unused"]
    books = heights(panel(drawing, "books"))
    assert books[GREY] == pytest.approx({0: 10, 1: 20, 3: 50, 5: 20})
    assert books[BLUE] == pytest.approx({0: 4, 1: 6, 3: 50, 5: 40})
    whole = heights(panel(drawing, "all domains"))
    assert whole[GREY] == pytest.approx({0: 40, 1: 5, 2: 12.5, 3: 12.5, 4: 25, 5: 5})
    assert whole[BLUE] == pytest.approx({0: 13.6, 1: 2.4, 2: 16, 3: 20, 4: 32, 5: 16})


def test_words_and_the_threshold(fake: Run) -> None:
    drawing = draw(fake)
    figure = drawing.figure
    assert (
        figure.texts[1].get_text() == f"run packed \u00b7 method per-source \u00b7 rows of 128K tokens \u00b7 {DEVICE}"
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("read, without duplicates", "packed", "long: 4K tokens or more")
    ]
    books = panel(drawing, "books")
    assert [text.get_text() for text in books.texts] == [f"long: 70 {ARROW} 90 %"]
    assert [line.get_xdata()[0] for line in books.lines] == [2.5], "between the buckets from 2K and from 4K"
    ticks = dict(zip((label.get_text() for label in books.get_xticklabels()), books.get_xticks(), strict=True))
    assert ticks == {"1K": 0.5, "4K": 2.5, "16K": 4.5}, "at the buckets' lower ends"
    assert panel(drawing, "all domains").get_xlabel() == "length of document (tokens)"
    assert panel(drawing, "mixture").get_xlabel() == "share of all tokens (%)"


def test_data_is_what_is_drawn(fake: Run) -> None:
    data = draw(fake).data
    assert data["panel"].value_counts().to_dict() == {"lengths": 6 + 3 + 4 + 1, "mixture": 3}
    mixture = data[data["panel"] == "mixture"].set_index("domain")
    assert mixture["tokens_before"].to_dict() == BEFORE
    assert mixture["tokens_after"].to_dict() == AFTER
    sums = data.groupby(["panel", "domain"], dropna=False)[["share_before", "share_after"]].sum()
    assert sums.loc[("lengths", "books")].tolist() == pytest.approx([1, 1])
    assert sums.loc["mixture"].sum().tolist() == pytest.approx([1, 1])


def test_a_single_domain_has_one_panel(tmp_path: Path) -> None:
    drawing = draw(packing_run(tmp_path, records({"books": BOOKS})))
    (axes,) = drawing.figure.axes
    assert axes.get_title() == "books"
    assert axes.get_ylabel() == "share of tokens (%)"
    assert heights(axes)[BLUE] == pytest.approx({0: 4, 1: 6, 3: 50, 5: 40})
    assert set(drawing.data["panel"]) == {"lengths"}


def test_a_bucket_without_any_document_keeps_its_place(tmp_path: Path) -> None:
    lengths = {0: (10, 0, 10), 1024: (10, 0, 10), 8192: (20, 0, 20)}
    axes = draw(packing_run(tmp_path, records({"books": lengths}))).figure.axes[0]
    assert heights(axes)[GREY] == pytest.approx({0: 25, 1: 25, 3: 50}), "from 2K to 8K there is nothing"


def test_without_up_sampling_nothing_changes(tmp_path: Path) -> None:
    kept = {low: (read, 0, read) for low, (read, _, _) in WEB.items()}
    upsampling = {"threshold": THRESHOLD, "factor": None, "share": None, "max_repeats": 1}
    run = packing_run(tmp_path, records({"web": kept, "books": kept}), method="cut", upsampling=upsampling)
    drawing = draw(run)
    for axes in [axes for axes in drawing.figure.axes if axes.axison]:
        assert heights(axes)[GREY] == heights(axes)[BLUE]
    assert "Method cut; rows of" in packing_markdown(run, packing_table(run))


@pytest.mark.slow
def test_many_domains_share_a_panel(tmp_path: Path) -> None:
    domains = {f"domain {n:02}": {0: (1000 - n, 0, 10), 8192: (500, 0, 40)} for n in range(MOST + 3)}
    drawing = draw(packing_run(tmp_path, records(domains)))
    titles = [axes.get_title() for axes in drawing.figure.axes if axes.axison]
    assert titles == ["mixture", "all domains", *list(domains)[: MOST - 1], "4 others"]
    others = 100 * 4 * 500 / sum(1500 - n for n in range(MOST - 1, MOST + 3))
    assert heights(panel(drawing, "4 others"))[GREY] == pytest.approx({0: 100 - others, 2: others})
    assert drawing.data.loc[drawing.data["panel"] == "mixture", "tokens_after"].sum() == 50 * (MOST + 3)


NAMES = ["RedPajamaStackExchange", "costs $5 and $6", "n" * 90, *(f"domain-{n}" for n in range(7))]


@pytest.mark.parametrize("count", [1, 2, 4, 10])
def test_words_are_inside_and_apart_and_ticks_have_labels(count: int, tmp_path: Path) -> None:
    lengths = {low: (100 + low // 99, 0, 50) for low in EDGES}
    with paper_style():
        figure = draw(packing_run(tmp_path, records(dict.fromkeys(NAMES[:count], lengths)))).figure
    assert_looks_right(figure)
    written = [text.get_text() for text in figure.findobj(Text)]
    assert any("costs" in words for words in written) == (count > 1)


# broken results


def test_two_packings_in_a_run_are_an_error(tmp_path: Path) -> None:
    packing_run(tmp_path, records(TOKENS))
    path = tmp_path / "packed/packing.json"
    (tmp_path / "packed/other.json").write_text(path.read_text())
    with pytest.raises(ArtifactError, match="kind packing with 2 sums: allowed is one packing"):
        packing_table(open_run("packed", tmp_path))


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("workers", None, "column 'workers' is missing"),
        ("tokens_used", "many", "'tokens_used' holds something that is"),
    ],
)
def test_broken_columns_are_named(column: str, value: object, error: str, tmp_path: Path) -> None:
    packing_run(tmp_path, records(TOKENS))
    path = tmp_path / "packed/packing.json"
    written = json.loads(path.read_text())
    for row in written["records"]:
        row.pop(column)
        row |= {} if value is None else {column: value}
    path.write_text(json.dumps(written))
    with pytest.raises(ArtifactError, match=error):
        packing_table(open_run("packed", tmp_path))


def test_absence_names_the_command(tmp_path: Path) -> None:
    run = open_run("smoke", write_run(tmp_path / "smoke").parent)
    command = r"longgen pack CONFIG --output FOLDER --result results/smoke/packing\.json"
    with pytest.raises(ArtifactError, match=rf"packing\.json is missing: `{command}` makes it"):
        run.frame("packing")
