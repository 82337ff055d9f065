"""`longgen compare`: ratio, placement, pattern and baselines of cached runs side by side, in the terminal."""

from __future__ import annotations

import json
import sys

import pandas as pd

from longgen.busy import RULE
from longgen.cli.options.reporting import CompareOptions
from longgen.errors import ConfigError
from longgen.reporting.ablation import READABLE_COLUMNS, readable_cell
from longgen.reporting.comparison import REDUCED, SIDES, comparison_table, differences, readable_comparison
from longgen.reporting.disturbed import disturbed_note
from longgen.reporting.families import side_by_side
from longgen.reporting.run import Run, open_run
from longgen.reporting.words import format_length
from longgen.tables import Bold, Table

_WORDS = ("variant", "what", "budget of", "full layers")


def compare(options: CompareOptions) -> None:
    """Print the comparison, as tables, JSON or CSV."""
    runs = [open_run(name, options.results) for name in options.run]
    folders = [run.folder.resolve() for run in runs]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            once, again = options.run[folders.index(folder)], options.run[index]
            raise ConfigError(f"{once} and {again} are the same run, {runs[index].folder}: allowed are different ones")
    tables: list[tuple[Run, str, pd.DataFrame]] = []
    for run in runs:
        table = comparison_table(run)
        if table.empty:
            raise run.missing("retrieval")
        comparisons = (
            {name: side_by_side(table, name) for name in dict.fromkeys(options.by)} if options.by else {"": table}
        )
        tables += [(run, name, rows) for name, rows in comparisons.items()]
    if options.as_json or options.as_csv:
        # object columns: concatenating an all-empty column must not change another run's numbers
        frames = [
            table.astype(object).assign(run=run.name, **({"by": name} if name else {})) for run, name, table in tables
        ]
        rows = pd.concat(frames, ignore_index=True)
        first = [column for column in ("run", "by") if column in rows]
        rows = rows[[*first, *rows.columns.drop(first)]]
        if options.as_csv:
            rows.to_csv(sys.stdout, index=False, lineterminator="\n")
        else:
            print(json.dumps(rows.where(rows.notna(), None).to_dict("records"), indent=1, default=_plain))
        return
    if len(runs) == 2:
        half = len(tables) // 2
        for (a, name, ours), (b, _, theirs) in zip(tables[:half], tables[half:], strict=True):
            _side_by_side(a, b, name, ours, theirs).print()
        return
    for run, name, table in tables:
        _readable(run, name, table).print()


def _plain(value: object) -> object:
    """A numpy number as a plain one."""
    return value.item()  # type: ignore[attr-defined]


def _title(run: Run) -> str:
    return f"{run.name}: {run.model_name} at {format_length(run.plan.trained_length)} tokens"


def _disturbed_caption(*runs: Run) -> str:
    """What a caption says of speed-ups that are marked; nothing if none is."""
    return f". {RULE}" if any(disturbed_note(run, "speed") for run in runs) else ""


def _side_by_side(first: Run, second: Run, comparison: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Table:
    """A row per variant and quantity that either run measured."""
    table = Table(
        ["variant", "quantity"],
        ["A", "B", "B - A"],
        title=f"A = {_title(first)}; B = {_title(second)}" + (f"; by {comparison}" if comparison else ""),
        caption="measured, with 95 % intervals; B - A as of independent samples, bold where its interval leaves out 0; "
        "KV cache, and speed-up of training, prefill and decode, relative to full attention"
        + _disturbed_caption(first, second),
        together=True,
    )
    for row in differences(ours, theirs).to_dict("records"):
        style = READABLE_COLUMNS[row["quantity"]][1]
        reduction = f", {row['method']} to the bytes of {row['budget_of']}" if row["what"] == REDUCED else ""
        change = readable_cell(row, "difference", f"+{style}")
        is_one = row["difference_low"] > 0 or row["difference_high"] < 0
        values = [readable_cell(row, side, style) for side in SIDES]
        table.add(f"{row['variant']}{reduction}", row["quantity"], *values, Bold(change) if is_one else change)
    return table


def _readable(run: Run, comparison: str, table: pd.DataFrame) -> Table:
    readable = readable_comparison(table, Bold)
    readable = readable.loc[:, (readable != "").any()]  # columns without any measurement take no room
    names = [heading for heading in readable.columns if heading in _WORDS]
    text_table = Table(
        names,
        [heading for heading in readable.columns if heading not in _WORDS],
        title=_title(run) + (f", by {comparison}" if comparison else ""),
        caption="measured, with 95 % intervals; KV cache and speed-ups relative to full attention"
        + _disturbed_caption(run),
        keys=len(names) if "budget of" in names else 1,
    )
    for row in readable.itertuples(index=False):
        text_table.add(*row)
    return text_table
