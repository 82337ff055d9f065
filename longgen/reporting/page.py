"""A table written for readers as a web page that stands by itself: for the report of a run."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from longgen.files import atomic_file

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #1c2330; margin: 2em; }
p, ul { max-width: 62em; }
table { border-collapse: collapse; margin: 1em 0 2em; }
th, td { padding: .35em .8em; border-bottom: 1px solid #dde1e7; vertical-align: top; }
th { background: #f3f5f8; position: sticky; top: 0; }
tr:hover td { background: #f8fafc; }
td { font-variant-numeric: tabular-nums; }
code { background: #f3f5f8; padding: 0 .25em; }
"""


def page_of(markdown: str, title: str) -> str:
    """HTML of a Markdown text with tables. Fetches nothing; HTML within the text stays text."""
    from markdown_it import MarkdownIt

    whole = re.sub(r"(?<=\d) (?=%)", "\u00a0", markdown)  # a number and its sign stay on a line
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(whole)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}</body></html>\n'


def write_page(path: Path) -> Path:
    """Write ``NAME.html`` beside the Markdown file ``NAME.md``, atomically; returns its path."""
    page = path.with_suffix(".html")
    with atomic_file(page) as temporary:
        temporary.write_text(page_of(path.read_text(encoding="utf-8"), path.stem), encoding="utf-8")
    return page
