"""Tables within pages that people write, such as README.md: of published runs, and written anew with their figures.

    <!-- ablation of published/smoke-cpu: needle, training, prefill -->
    ...
    <!-- end -->

What stands between the two comments is the table: `longgen.reporting.ablation`, with those columns of it. After
``table ruler_tasks_table of published/smoke-cpu`` it is another table of a run, the first one where it has several, and
after ``columns of speed`` that of the columns of a kind of results (`longgen.records`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from longgen.errors import ConfigError
from longgen.records.kinds import KINDS, PUBLICATION, kind_of
from longgen.records.schema import columns_table
from longgen.reporting import TABLES_OF_RUNS, table_maker
from longgen.reporting.ablation import READABLE_COLUMNS, ablation_table, readable_table
from longgen.reporting.run import Run
from longgen.reporting.words import variant_label
from longgen.strict import require

_BEGIN = re.compile(r"<!-- (?:ablation of (\S+): ([^>]*?)|table (\S+) of (\S+)|columns of (\S+)) -->\n")
_END = "<!-- end -->"
_ALWAYS = ["variant", "full layers", "KV cache"]


def with_tables(text: str, runs: Mapping[str, Run], page: str) -> str:
    """``text`` with every table written anew.

    Args:
        text: of the page, in Markdown.
        runs: by name.
        page: its name, for errors.

    Raises:
        ConfigError: a run, a column or a kind is unknown, or a table has no end.
        ArtifactError: results of the run are missing.
    """
    parts, place = [], 0
    for begin in _BEGIN.finditer(text):
        end = text.find(_END, begin.end())
        next_begin = _BEGIN.search(text, begin.end())
        if end < 0 or (next_begin and next_begin.start() < end):
            raise ConfigError(f"{page}: {begin[0].strip()} has no end: allowed is one, {_END}, before the next table")
        run, columns, name, run_of_table, kind = begin.groups()
        if kind:
            table = _columns(kind, page)
        else:
            table = _first_table(name, run_of_table, runs, page) if name else _ablation(run, columns, runs, page)
        parts += [text[place : begin.end()], table]
        place = end
    return "".join([*parts, text[place:]])


def _first_table(name: str, run: str, runs: Mapping[str, Run], page: str) -> str:
    require(name in TABLES_OF_RUNS, f"{page}: table", name, ", ".join(TABLES_OF_RUNS))
    require(run in runs, f"{page}: table {name} of", run, ", ".join(runs))
    _, markdown = table_maker(name)(runs[run])
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), markdown.splitlines())
    return "".join(f"{line}\n" for line in itertools.takewhile(lambda line: line.startswith("|"), lines))


def _ablation(name: str, columns: str, runs: Mapping[str, Run], page: str) -> str:
    require(name in runs, f"{page}: ablation of", name, ", ".join(runs))
    headings = [column.strip() for column in columns.split(",")]
    for column in headings:
        require(column in READABLE_COLUMNS, f"{page}: ablation of {name}, column", column, ", ".join(READABLE_COLUMNS))
    table = readable_table(ablation_table(runs[name])).reindex(columns=[*_ALWAYS, *headings]).fillna("")
    table["variant"] = table["variant"].map(variant_label)
    return f"{table.to_markdown(index=False, disable_numparse=True)}\n"


def _columns(kind: str, page: str) -> str:
    kinds = (*KINDS, PUBLICATION)
    require(kind in kinds, f"{page}: columns of", kind, ", ".join(kinds))
    return columns_table(kind_of(kind).record)
