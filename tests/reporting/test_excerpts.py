"""Tables within pages that people write: between their two comments, and nothing else of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ConfigError
from longgen.reporting import table_maker
from longgen.reporting.ablation import ablation_table, readable_table
from longgen.reporting.excerpts import with_tables
from longgen.reporting.run import Run

BEGIN = "<!-- ablation of {}: prefill, needle -->\n"
PAGE = f"# Mine\n\n{BEGIN.format('smoke')}<!-- end -->\n\nwords\n{BEGIN.format('smoke')}| old |\n<!-- end -->\nmore"


def test_tables_are_written_between_their_comments_and_nothing_else_changes(run: Run) -> None:
    written = with_tables(PAGE, {"smoke": run}, "page.md")
    first, second = written.split("<!-- end -->")[:2]
    assert first.startswith("# Mine\n\n" + BEGIN.format("smoke") + "| variant")
    assert "| old |" not in written and written.endswith("<!-- end -->\nmore") and "\n\nwords\n" in written
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines() if line.startswith("| ")]
    assert rows[0] == ["variant", "full layers", "KV cache", "prefill", "needle"]
    assert [row[0] for row in rows[1:4]] == ["full attention", "LongGen (sink)", "LongGen (stride)"]
    readable = readable_table(ablation_table(run)).set_index("variant")
    assert rows[2][3:] == list(readable.loc["longgen-sink", ["prefill", "needle"]])
    assert second.split(BEGIN.format("smoke"))[1] == first.split(BEGIN.format("smoke"))[1]
    assert with_tables(written, {"smoke": run}, "page.md") == written
    assert with_tables("no table", {}, "page.md") == "no table"


def test_any_table_of_a_run_can_stand_in_a_page(run: Run) -> None:
    written = with_tables("<!-- table task_scores_table of smoke -->\nold\n<!-- end -->\n", {"smoke": run}, "page.md")
    lines = written.splitlines()
    assert lines[1].startswith("| method") and "average" in lines[1]
    assert [line.split("|")[1].strip() for line in lines[3:6]] == [
        "full attention",
        "LongGen (sink)",
        "LongGen (stride)",
    ]
    _, markdown = table_maker("task_scores_table")(run)
    assert "\n".join(lines[1:-1]) + "\n\n" in markdown


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (
            "<!-- table claim of smoke -->\n<!-- end -->",
            r"page\.md: table is 'claim': allowed is ablation, task",
        ),
        ("<!-- table claims of x -->\n<!-- end -->", r"page\.md: table claims of is 'x': allowed is smoke"),
        (PAGE.replace("of smoke", "of other"), r"page\.md: ablation of is 'other': allowed is smoke"),
        (PAGE.replace("needle", "needles"), r"ablation of smoke, column is 'needles': allowed is KV cache, needle"),
        (PAGE.replace("<!-- end -->", "", 1), r"page\.md: <!-- ablation of smoke: .* has no end: allowed is one"),
        (PAGE.replace("<!-- end -->", ""), "has no end"),
    ],
)
def test_what_cannot_be_written_is_refused(run: Run, page: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_tables(page, {"smoke": run}, "page.md")


def test_a_page_of_ones_own_needs_all_published(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--tables-in is .*: allowed is it with --all-published"):
        CliRunner().invoke(app, ["figures", "smoke", "--tables-in", str(tmp_path / "x.md")], catch_exceptions=False)
