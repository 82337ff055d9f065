"""Tables as web pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from longgen.reporting.page import page_of
from longgen.reporting.report import write_report
from longgen.reporting.run import Run


def test_markdown_becomes_a_table_and_html_in_it_stays_text() -> None:
    page = page_of("# Title\n\n| a | b |\n|:--|--:|\n| 1 | <script>x</script> |\n\n**bold** 62.0 %", "a < b")
    assert "<title>a &lt; b</title>" in page
    assert '<td style="text-align:right">&lt;script&gt;x&lt;/script&gt;</td>' in page
    assert "<strong>bold</strong> 62.0\u00a0%" in page
    assert "<script" not in page
    assert "http" not in page, "nothing is fetched"


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_every_table_of_a_report_gets_a_page_if_asked_for_and_a_stale_one_goes(run: Run, tmp_path: Path) -> None:
    report = write_report(run, tmp_path, only=["ablation"], forms=["html"])
    assert [path.name for path in report.files] == ["ablation.csv", "ablation.md", "ablation.html"]
    text = (tmp_path / "ablation.html").read_text(encoding="utf-8")
    assert text.count("<tr>") == 1 + 4
    assert "LongGen" in text or "longgen-sink" in text
    write_report(run, tmp_path, only=["claims"])
    assert not (tmp_path / "claims.html").exists()
    (tmp_path / "packing_table.html").write_text("of another run")
    write_report(run, tmp_path)
    assert not (tmp_path / "packing_table.html").exists()
