"""Tables as LaTeX: what a compiler would stumble over, in all that is published; and words and signs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from longgen.reporting.latex import latex_of, write_latex
from longgen.reporting.report import write_report
from longgen.reporting.run import Run

PUBLISHED = sorted((Path(__file__).parents[2] / "paper_figures" / "published").rglob("*.md"))
COMMANDS = {
    *("begin", "end", "centering", "small", "caption", "resizebox", "ifdim", "width", "textwidth", "else", "fi"),
    *("toprule", "midrule", "bottomrule", "addlinespace", "shortstack", "raggedright", "arraybackslash"),
    *("par", "smallskip", "footnotesize", "textbf", "emph", "texttt", "ldots"),
    *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"),
    *("times", "cdot", "mu", "ddagger", "rightarrow", "leftarrow", "leq", "geq"),
}


def check(text: str) -> None:
    """That LaTeX with booktabs and graphicx would take it: what it knows, what is open is closed, columns agree."""
    open_environments, depth, maths, columns = [], 0, False, 0
    text = re.sub(r"(?m)^%.*$", "", text)
    assert text.isascii(), set(re.findall(r"[^\x00-\x7f]", text))
    for line in text.splitlines():
        bare = re.sub(r"\\[&%$#_{}\\]", "", line)  # what is escaped, and the end of a row
        if " & " in bare or bare.endswith(" "):
            assert not re.search(r"[$#_^~]", bare), line
        for name in re.findall(r"\\([A-Za-z]+)", bare):
            assert name in COMMANDS, line
        for found in re.finditer(r"\\begin\{([a-z*]+)\}(?:\{((?:[^{}]|\{[^{}]*\})*)\})?|\\end\{([a-z*]+)\}", line):
            begun, argument, ended = found.groups()
            if begun:
                open_environments.append(begun)
                if begun == "tabular":
                    columns = len(re.findall(r"[lr]|p\{[^{}]*\}", re.sub(r">\{[^{}]*\}", "", argument)))
            else:
                assert open_environments.pop() == ended
        if line.endswith(r"\\"):
            assert open_environments[-1] == "tabular"
            assert bare.count("&") + 1 == columns, line
        else:
            assert "&" not in bare, line
        depth += len(re.findall(r"(?<!\\)\{", line.replace(r"\\", ""))) - len(
            re.findall(r"(?<!\\)\}", line.replace(r"\\", ""))
        )
        for sign in re.findall(r"\\[()]", line.replace(r"\\", "")):
            assert (sign == r"\(") != maths, line
            maths = not maths
        assert not maths, line
    assert depth == 0
    assert not open_environments


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_published_table_is_latex_that_holds_together(path: Path) -> None:
    markdown = path.read_text(encoding="utf-8")
    text = latex_of(markdown)
    check(text)
    rows = sum(line.startswith("|") for line in markdown.splitlines())
    tables = text.count(r"\begin{tabular}")
    assert text.count(r" \\") == rows - tables, "every row but the one of dashes"
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == tables > 0


def test_what_does_not_hold_together_is_found() -> None:
    good = latex_of("# T\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n")
    check(good)
    for wrong in (
        good.replace(r"1 & 2", "1 & 2 & 3"),
        good.replace("1 &", "{1 &"),
        good.replace("1 &", r"\undefined{} &"),
    ):
        with pytest.raises(AssertionError):
            check(wrong)
    with pytest.raises(AssertionError):
        check(good.replace(r"\end{table*}", ""))


def test_signs_words_and_headings() -> None:
    text = latex_of(
        "# Runs of a_b & c\n\nBefore: 50 % `x_y`.\n\n## Speed\n\n| what | [n] | ratio |\n|:--|--:|--:|\n"
        "| **best_1** | -3 | 1.50\u00d7 (1.40\u20131.60) |\n| [link](there) | 12 | |\n\n- a note\n\n"
        "## Other\n\n| a |\n|:--|\n" + f"| {'long words ' * 6} |\n"
    )
    check(text)
    first, second = text.split(r"\begin{table*}")[1:]
    assert r"\caption{Runs of a\_b \& c. Speed}" in first
    assert r"\begin{tabular}{lrr}" in first
    assert r"what & [n] & ratio \\" in first
    assert r"\textbf{best\_1} & \(-\)3 & 1.50\(\times\) (1.40--1.60) \\" in first
    assert r"link & 12 &  \\" in first
    assert r"Before: 50 \% \texttt{x\_y}. a note" in first
    assert r"\caption{Runs of a\_b \& c. Other}" in second
    assert r"\begin{tabular}{>{\raggedright\arraybackslash}p{.3\textwidth}}" in second


def test_of_a_wide_table_intervals_stand_below_their_values() -> None:
    names = [f"what is measured {number}" for number in range(6)]
    line = "| **0.50 (0.40\u20130.60)** |" + " -3 % (-8 to 5)\u2021 |" * 4 + " 1.50 (1.40\u20131.60) [2] |\n"
    head = f"# T\n\n| {' | '.join(names)} |\n|{'--:|' * 6}\n"
    text = latex_of(head + 2 * line)
    check(text)
    assert r"\shortstack{what is\\measured 0} & " in text
    assert (
        r"\textbf{\shortstack[r]{0.50\\(0.40--0.60)}} & \shortstack[r]{\(-\)3 \%\\(\(-\)8 to 5)\(\ddagger\)} & " in text
    )
    assert r"\shortstack[r]{1.50\\(1.40--1.60) [2]} \\" in text
    assert text.count(r"\addlinespace") == 1
    long = latex_of(head + 30 * line)
    check(long)
    assert "shortstack" not in long, "a table of many rows would be higher than a page"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX: texlive-latex-recommended")
def test_every_published_table_compiles_and_fits_a_page(tmp_path: Path) -> None:
    tables = "\n\\clearpage\n".join(latex_of(path.read_text(encoding="utf-8")) for path in PUBLISHED)
    packages = "array,booktabs,graphicx"
    page = f"\\documentclass{{article}}\\usepackage[margin=1in]{{geometry}}\\usepackage{{{packages}}}"
    (tmp_path / "all.tex").write_text(f"{page}\n\\begin{{document}}\n{tables}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, re.findall(r"(?m)^!.*\n.*", done.stdout)
    assert "Float too large" not in done.stdout
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="replace")


@pytest.mark.usefixtures("undrawn")
def test_every_table_of_a_report_is_written_if_asked_for_and_anew_where_there_is_one(run: Run, tmp_path: Path) -> None:
    report = write_report(run, tmp_path, only=["ablation"], forms=["tex"])
    assert [path.name for path in report.files] == ["ablation.csv", "ablation.md", "ablation.tex"]
    check((tmp_path / "ablation.tex").read_text(encoding="utf-8"))
    (tmp_path / "ablation.tex").write_text("stale")
    write_report(run, tmp_path, only=["ablation"])
    assert "longgen-sink" in (tmp_path / "ablation.tex").read_text(encoding="utf-8")
    write_report(run, tmp_path, only=["claims"])
    assert not (tmp_path / "claims.tex").exists()
    (tmp_path / "claims.md").write_text("# Title\n\n| a |\n|:--|\n| 1 |\n")
    assert write_latex(tmp_path / "claims.md") == tmp_path / "claims.tex"
