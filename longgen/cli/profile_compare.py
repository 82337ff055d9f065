"""`longgen profile compare`: two cached profiles side by side, in the terminal."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from textwrap import shorten

import pandas as pd

from longgen.cli.options.reporting import ProfileCompareOptions
from longgen.reporting.profile_comparison import ProfileComparison, compare_profiles, is_worse
from longgen.reporting.run import open_run
from longgen.reporting.words import TO, format_bytes
from longgen.tables import RED, Table, print_text


def profile_compare(options: ProfileCompareOptions) -> None:
    """Print the comparison, as tables or as JSON."""
    results = options.results
    comparisons = compare_profiles(open_run(options.a, results), open_run(options.b, results))
    if options.as_json:
        print(json.dumps([_plain(comparison) for comparison in comparisons], indent=1))
        return
    alike = len({_origins(comparison) for comparison in comparisons}) == 1  # then it is said once, below
    for index, comparison in enumerate(comparisons):
        # without intervals there is no verdict to choose rows by
        has_verdicts = (comparison.rows["verdict"] != "").any()
        rows = comparison.changes if has_verdicts and not options.every else comparison.rows
        if len(rows):
            _table(comparison, rows).print()
        lines = [_summary(comparison), *_left_out(comparison)]
        if not alike or index == len(comparisons) - 1:
            lines += ["", *_origins(comparison)] if alike else _origins(comparison)
        print_text([*lines, ""])


def _plain(comparison: ProfileComparison) -> dict[str, object]:
    rows = json.loads(comparison.rows.to_json(orient="records", double_precision=15))
    quantity = {name: value for name, value in asdict(comparison.quantity).items() if name in ("kind", "column")}
    mean = {"mean_ratio": comparison.mean_ratio}
    only = dict(zip(("only_in_a", "only_in_b"), comparison.only, strict=True))
    origins = dict(zip(("a", "b"), comparison.origins, strict=True))
    return quantity | origins | {"cautions": list(comparison.cautions)} | only | mean | {"rows": rows}


def _table(comparison: ProfileComparison, rows: pd.DataFrame) -> Table:
    quantity = comparison.quantity
    # what is the same in all rows needs no column
    keys = [key for key in quantity.keys if rows[key].nunique() > 1]
    same = [f"{key} {rows[key].iloc[0]}" for key in quantity.keys if key not in keys]
    title = ", ".join([f"{quantity.kind}: {quantity.column}", *same])
    words = [key for key in keys if rows[key].dtype.kind not in "if"]
    numbers = [key for key in keys if key not in words]
    table = Table(words, [*numbers, "A", "B", "B / A", "B is"], title, keys=len(keys))
    for row in rows.to_dict("records"):
        cells = [_cell(quantity.meaning, *(row[f"{run}{end}"] for end in ("", "_low", "_high"))) for run in ("a", "b")]
        ratio = _cell("ratio", row["ratio"], row["ratio_low"], row["ratio_high"])
        style = RED if is_worse(quantity, row["verdict"]) else ""
        table.add(*(f"{row[key]}" for key in (*words, *numbers)), *cells, ratio, row["verdict"], style=style)
    return table


def _cell(meaning: str, value: float, low: float, high: float) -> str:
    """A value with its interval if it has one: times in milliseconds, ratios with two decimals, bytes as they are."""

    def show(number: float) -> str:
        if meaning == "bytes":
            return format_bytes(number)
        return f"{1e3 * number:,.{_decimals(1e3 * number)}f}" if meaning == "time" else f"{number:.2f}"

    unit = " ms" if meaning == "time" else ""
    return f"{show(value)}{unit}" + ("" if low != low else f" ({show(low)}{TO}{show(high)})")  # NaN: no interval


def _decimals(number: float) -> int:
    """Those that leave four digits, none beyond the point if there are as many before it."""
    return max(0, 3 - math.floor(math.log10(number))) if number > 0 else 0


def _summary(comparison: ProfileComparison) -> str:
    quantity, rows = comparison.quantity, comparison.rows
    counts = rows["verdict"].value_counts()
    verdicts = ", ".join(f"{count} {word}" for word, count in counts.items() if word)
    words = f"B: {verdicts}" if verdicts else "no verdict: these values have no interval"
    return f"{quantity.kind}, {quantity.column}: {words}; B / A over all {len(rows)} rows: {comparison.mean_ratio:.2f}"


def _left_out(comparison: ProfileComparison) -> list[str]:
    if not any(comparison.only):
        return []
    return [f"left out: {comparison.only[0]} row(s) that only A has, {comparison.only[1]} that only B has"]


def _origins(comparison: ProfileComparison) -> tuple[str, ...]:
    """Machines, commits and days, and what else differs; long lists are whole in --json."""
    lines = [f"{name} = {origin}" for name, origin in zip("AB", comparison.origins, strict=True)]
    cautions = (shorten(f"differs too: {caution}", 160, placeholder=" ...") for caution in comparison.cautions)
    return (*lines, *cautions)
