"""`longgen compare`: ratio, placement, pattern and baselines of cached runs side by side, in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longgen.cli.figures import Results
from longgen.errors import ConfigError
from longgen.reporting import need_report_packages
from longgen.strict import require
from longgen.tables import Bold, Table

if TYPE_CHECKING:
    import pandas as pd

    from longgen.reporting.run import Run

_WORDS = ("variant", "what", "budget of", "full layers")


def compare(
    run: Annotated[list[str], typer.Argument(help="Runs: NAME for results/NAME, or published/NAME.")],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMPARISON",
            help="Only what an ablation sets side by side: ratio, placement, pattern, or baseline (KV reductions at "
            "inference among them); repeat for several tables.",
            show_default="all rows",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of rows instead.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead.")] = False,
    results: Results = Path("results"),
) -> None:
    """Compare the variants of one or several runs: quality with 95 % intervals and cost, the best values bold.

    Two runs stand side by side, with their difference; of more, a table each.
    Beside the trained variants stands the full one with its KV cache reduced at inference, where that was evaluated.
    All values are measured; what was not measured is empty.
    """
    if as_json and as_csv:
        raise ConfigError("--json and --csv are given: allowed is one of them")
    need_report_packages()
    import pandas as pd

    from longgen.reporting.comparison import comparison_table
    from longgen.reporting.families import COMPARISONS, side_by_side
    from longgen.reporting.run import open_run

    for name in by or []:
        require(name in COMPARISONS, "--by", name, ", ".join(COMPARISONS))
    runs = [open_run(name, results) for name in run]
    folders = [opened.folder.resolve() for opened in runs]
    for index, folder in enumerate(folders):
        if folder in folders[:index]:
            once, again = run[folders.index(folder)], run[index]
            raise ConfigError(f"{once} and {again} are the same run, {runs[index].folder}: allowed are different ones")
    tables: list[tuple[Run, str, pd.DataFrame]] = []
    for opened in runs:
        table = comparison_table(opened)
        if table.empty:
            raise opened.missing("retrieval")
        chosen = {name: side_by_side(table, name) for name in dict.fromkeys(by)} if by else {"": table}
        tables += [(opened, name, rows) for name, rows in chosen.items()]
    if as_json or as_csv:
        # object columns: concatenating an all-empty column must not change another run's numbers
        named = [
            table.astype(object).assign(run=opened.name, **({"by": name} if name else {}))
            for opened, name, table in tables
        ]
        rows = pd.concat(named, ignore_index=True)
        first = [column for column in ("run", "by") if column in rows]
        rows = rows[[*first, *rows.columns.drop(first)]]
        if as_csv:
            rows.to_csv(sys.stdout, index=False, lineterminator="\n")
        else:
            print(json.dumps(rows.where(rows.notna(), None).to_dict("records"), indent=1, default=_plain))
        return
    if len(runs) == 2:
        half = len(tables) // 2
        for (a, name, ours), (b, _, theirs) in zip(tables[:half], tables[half:], strict=True):
            _side_by_side(a, b, name, ours, theirs).print()
        return
    for opened, name, table in tables:
        _readable(opened, name, table).print()


def _plain(value: object) -> object:
    """A numpy number as a plain one."""
    return value.item()  # type: ignore[attr-defined]


def _title(run: Run) -> str:
    from longgen.reporting.words import format_length

    return f"{run.name}: {run.model_name} at {format_length(run.plan.trained_length)} tokens"


def _disturbed(*runs: Run) -> str:
    """What a caption says of speed-ups that are marked; nothing if none is."""
    from longgen.profiling.busy import RULE
    from longgen.reporting.disturbed import disturbed_note

    return f". {RULE}" if any(disturbed_note(run, "speed") for run in runs) else ""


def _side_by_side(first: Run, second: Run, comparison: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Table:
    """A row per variant and quantity that either run measured."""
    from longgen.reporting.ablation import READABLE, readable_cell
    from longgen.reporting.comparison import REDUCED, SIDES, differences

    table = Table(
        ["variant", "quantity"],
        ["A", "B", "B - A"],
        title=f"A = {_title(first)}; B = {_title(second)}" + (f"; by {comparison}" if comparison else ""),
        caption="measured, with 95 % intervals; B - A as of independent samples, bold where its interval leaves out 0; "
        "KV cache, and speed-up of training, prefill and decode, relative to full attention"
        + _disturbed(first, second),
        together=True,
    )
    for row in differences(ours, theirs).to_dict("records"):
        style = READABLE[row["quantity"]][1]
        reduced = f", {row['method']} to the bytes of {row['budget_of']}" if row["what"] == REDUCED else ""
        change = readable_cell(row, "difference", f"+{style}")
        is_one = row["difference_low"] > 0 or row["difference_high"] < 0
        values = [readable_cell(row, side, style) for side in SIDES]
        table.add(f"{row['variant']}{reduced}", row["quantity"], *values, Bold(change) if is_one else change)
    return table


def _readable(run: Run, comparison: str, table: pd.DataFrame) -> Table:
    from longgen.reporting.comparison import readable_comparison

    readable = readable_comparison(table, Bold)
    readable = readable.loc[:, (readable != "").any()]  # columns without any measurement take no room
    names = [heading for heading in readable.columns if heading in _WORDS]
    shown = Table(
        names,
        [heading for heading in readable.columns if heading not in _WORDS],
        title=_title(run) + (f", by {comparison}" if comparison else ""),
        caption="measured, with 95 % intervals; KV cache and speed-ups relative to full attention" + _disturbed(run),
        keys=len(names) if "budget of" in names else 1,
    )
    for row in readable.itertuples(index=False):
        shown.add(*row)
    return shown
