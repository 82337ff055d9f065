"""Which measured times and speed-ups are disturbed, and how figures and tables say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from longgen.busy import RULE, SIGN, is_disturbed
from longgen.reporting.run import Run

# Kinds whose records say how busy the machine was.
RECORDED = ("speed", "training-speed", "inference-speed", "serving-speed", "attention-speed")


def time_disturbed(row: Mapping[Any, Any] | pd.Series) -> bool | None:
    """Whether the time in a row is; None where it was not recorded."""
    return is_disturbed(row["others"], row["steal"], row["spread"])


def speedup_disturbed(row: Mapping[Any, Any] | pd.Series) -> bool | None:
    """Whether the speed-up in a row is; None where it was not recorded."""
    return is_disturbed(row["others"], row["steal"], row["speedup_spread"])


def with_disturbed(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with flags ``disturbed`` (the time) and ``speedup_disturbed``; NA where it was not recorded."""
    records = rows.to_dict("records")
    return rows.assign(
        disturbed=pd.array([time_disturbed(row) for row in records], dtype="boolean"),
        speedup_disturbed=pd.array([speedup_disturbed(row) for row in records], dtype="boolean"),
    )


def with_sign(text: str, disturbed: Any) -> str:
    """``text`` with `SIGN` behind it where a flag is set, and not missing; nothing stays nothing."""
    return f"{text}{SIGN}" if text and not pd.isna(disturbed) and disturbed else text


def is_set(flags: pd.Series) -> pd.Series:
    """Where flags are true: neither false nor missing."""
    return flags.astype("boolean").fillna(False).astype(bool)


def shown_note(rows: pd.DataFrame, flag: str, name_of: Callable[[Mapping[Any, Any]], str]) -> str:
    """Which of the values that a figure shows are disturbed, for its small print; empty if none is.

    Args:
        rows: what it shows.
        flag: name of a column of `with_disturbed`.
        name_of: a row of ``rows`` in words.
    """
    names = list(dict.fromkeys(name_of(row) for row in rows[is_set(rows[flag])].to_dict("records")))
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return f"{SIGN} disturbed: {', '.join([*names[:_NAMED], *more])}" if names else ""


_NAMED = 3  # values that small print has room for; the figure marks all


def disturbed_note(run: Run, *kinds: str) -> str:
    """How many of the speed-ups that a run has of ``kinds`` are disturbed, for tables of all; empty if none is.

    That of full attention over itself is none.
    """
    flags = [
        speedup_disturbed(row)
        for kind in kinds
        if kind in RECORDED and run.has(kind)
        for row in run.frame(kind).to_dict("records")
        if pd.notna(row["speedup"]) and "full" not in (row.get("variant"), row.get("pattern"))
    ]
    count = flags.count(True)
    return f"{SIGN} disturbed: {count} of the run's {len(flags)} speed-ups" if count else ""


def rule_lines(any_disturbed: bool) -> list[str]:
    """The rule as the last lines of a Markdown table's text, where something is marked."""
    return ["", RULE] if any_disturbed else []
