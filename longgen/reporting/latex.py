"""A table written for readers as LaTeX, to be pasted into a paper: with array, booktabs, graphicx, by any engine."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from longgen.files import atomic_file

if TYPE_CHECKING:
    from markdown_it.token import Token

_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "\u00b5": r"\(\mu\)",
    "\u00b7": r"\(\cdot\)",
    "\u00d7": r"\(\times\)",
    "\u2013": "--",
    "\u2026": r"\ldots{}",
    "\u2021": r"\(\ddagger\)",
    "\u2192": r"\(\rightarrow\)",
    "\u2190": r"\(\leftarrow\)",
    "\u2212": r"\(-\)",
    "\u2264": r"\(\leq\)",
    "\u2265": r"\(\geq\)",
}
_OPEN = {"strong_open": r"\textbf{", "em_open": r"\emph{"}
_CLOSE = {"strong_close": "}", "em_close": "}"}
_LONG = 40  # characters: columns with longer cells break their lines
_WIDE = 110  # characters: rows of more, and what a table has in lines of its own stands in two
_FEW = 20  # rows: of more, lines for two would be too high for a page
_HEADING = 14  # characters of a line of a heading there
_HEAD = "% \\usepackage{array,booktabs,graphicx}"


@dataclass
class _Table:
    """What one table of a text has around it: the headings above it, and the words of its section."""

    caption: str
    rows: list[list[Token]] = field(default_factory=list)
    plain: list[list[str]] = field(default_factory=list)  # the cells as they are read
    words: list[str] = field(default_factory=list)


def latex_of(markdown: str) -> str:
    """LaTeX of the tables in a Markdown text: a ``table*`` each, with its headings as caption and its words below.

    A table is as wide as the text at most: of one with long rows intervals stand below their values, and what is still
    wider is scaled. Words before the first table stand below it.
    """
    from markdown_it import MarkdownIt

    tables: list[_Table] = []
    headings: dict[int, str] = {}
    waiting: list[str] = []
    in_section: _Table | None = None
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(markdown)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            level = int(token.tag[1:])
            headings = {outer: text for outer, text in headings.items() if outer < level}
            headings[level] = _inline(tokens[place + 1])
            in_section = None
        elif token.type == "table_open":
            in_section = _Table(". ".join(headings.values()), words=waiting)
            tables.append(in_section)
            waiting = []
        elif token.type == "tr_open" and in_section:
            in_section.rows.append([])
            in_section.plain.append([])
        elif token.type == "inline" and in_section and tokens[place - 1].type in ("th_open", "td_open"):
            in_section.rows[-1].append(token)
            in_section.plain[-1].append(token.content.strip("*"))
        elif token.type == "inline" and tokens[place - 1].type == "paragraph_open":
            (in_section.words if in_section else waiting).append(_inline(token))
    if tables:
        tables[-1].words += waiting
    return "\n".join([_HEAD, *map(_environment, tables)]) + "\n"


def write_latex(path: Path) -> Path:
    """Write ``NAME.tex`` beside the Markdown file ``NAME.md``, atomically; returns its path."""
    page = path.with_suffix(".tex")
    with atomic_file(page) as temporary:
        temporary.write_text(latex_of(path.read_text(encoding="utf-8")), encoding="utf-8")
    return page


def _environment(table: _Table) -> str:
    columns_of = list(zip(*table.plain, strict=True))
    head_tokens, *body_tokens = table.rows
    is_wide = sum(max(map(len, cells)) + 2 for cells in columns_of) > _WIDE and len(body_tokens) <= _FEW
    head = [_heading(token.content) if is_wide else _inline(token) for token in head_tokens]
    body = [[_inline(token, is_wide) for token in row] for row in body_tokens]
    columns = "".join(_column(cells[1:]) for cells in columns_of)
    lines = [
        r"\begin{table*}",
        r"\centering\small",
        rf"\caption{{{table.caption}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _row(head),
        r"\midrule",
        ("\n\\addlinespace\n" if is_wide else "\n").join(map(_row, body)),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if table.words:
        lines.append(
            rf"\par\smallskip\begin{{minipage}}{{\textwidth}}\footnotesize {' '.join(table.words)}\end{{minipage}}"
        )
    return "\n".join([*lines, r"\end{table*}"])


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    # a bracket at its beginning would be an argument of the line's end before it
    start = f"{{}}{first}" if first.startswith("[") else first
    return " & ".join([start, *others]) + r" \\"


def _column(cells: Sequence[str]) -> str:
    """Numbers stand to the right, words to the left; long ones in lines."""
    texts = [cell for cell in cells if cell]
    if texts and all(re.fullmatch(r"[-+]?\d[^A-Za-z]*( to [^A-Za-z]*)?", cell) for cell in texts):
        return "r"
    if max(map(len, texts), default=0) > _LONG:
        return r">{\raggedright\arraybackslash}p{.3\textwidth}"
    return "l"


def _heading(text: str) -> str:
    """A heading in lines, so that it is no wider than what stands below it."""
    lines = r"\\".join(_escaped(line) for line in textwrap.wrap(text, _HEADING, break_long_words=False))
    return rf"\shortstack{{{lines}}}" if r"\\" in lines else lines


def _inline(token: Token, stacked: bool = False) -> str:
    """A line of Markdown: bold, emphasis and code; of a link its words. ``stacked``: intervals below their values."""
    parts = []
    for part in token.children or []:
        if part.type == "code_inline":
            parts.append(rf"\texttt{{{_escaped(part.content)}}}")
        elif part.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif stacked and (found := _WITH_INTERVAL.fullmatch(part.content)):
            value, interval = map(_escaped, found.groups())
            parts.append(rf"\shortstack[r]{{{value}\\{interval}}}")
        else:
            parts.append(_OPEN.get(part.type) or _CLOSE.get(part.type) or _escaped(part.content))
    return "".join(parts)


_WITH_INTERVAL = re.compile(r"([-+]?\d\S*(?: %)?) (\([-+]?\d.*\)\S*(?: \[\d+\])?)")


def _escaped(text: str) -> str:
    words = "".join(_SIGNS.get(sign, sign) for sign in text)
    return re.sub(r"(?<![\w.)-])-(?=[\d.])", r"\\(-\\)", words)  # before a number: a minus, not a hyphen
