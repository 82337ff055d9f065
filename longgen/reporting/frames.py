"""Records as data frames, checked against what their kind declares (`longgen.records`)."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from longgen.errors import ArtifactError
from longgen.records.kinds import Kind
from longgen.records.schema import FLAG, MEASURED, NUMBER, NUMBERS, STATUSES, Column


def check_columns(frame: pd.DataFrame, kind: Kind, path: Path) -> pd.DataFrame:
    """The records in ``frame`` with columns of their types: text, lists of numbers, numbers (missing ones NaN), flags
    (missing ones NA).

    Columns that earlier versions did not write are added, all NaN; of lists all None.

    Raises:
        ArtifactError: a column is absent or of another type, a status is unknown, or a value that was measured is null.
    """
    for column in kind.columns:
        if column.newer and column.name not in frame:
            frame[column.name] = math.nan
        if column.name not in frame:
            raise ArtifactError(f"{path}: column {column.name!r} is missing; see docs/results-format.md")
        _check_type(frame, column, path)
    if "status" not in kind.column_names:
        return frame
    if unknown_statuses := set(frame["status"]) - set(STATUSES):
        raise ArtifactError(f"{path}: status is {min(map(str, unknown_statuses))!r}: allowed are {', '.join(STATUSES)}")
    measured_rows = frame[frame["status"] == MEASURED]
    for column in kind.columns:
        if not (column.nullable or column.newer) and measured_rows[column.name].isna().any():
            raise ArtifactError(f"{path}: column {column.name!r} is null in a record of status {MEASURED!r}")
    return frame


def _check_type(frame: pd.DataFrame, column: Column, path: Path) -> None:
    values, name = frame[column.name], column.name
    if column.type == FLAG:
        if not all(value is None or isinstance(value, bool) for value in values.tolist()):
            raise ArtifactError(f"{path}: column {name!r} holds something that is not true, false or null")
        frame[name] = values.astype("boolean")
    elif column.type == NUMBERS:
        # pandas writes NaN where the file of one variant has the column and that of another does not
        lists = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
        for numbers, count in zip(lists, frame["n"], strict=True):
            if not column.allows(numbers, count):
                raise ArtifactError(f"{path}: column {name!r} holds something that is no list of n numbers")
        frame[name] = pd.Series(lists, frame.index, dtype=object)
    elif column.type == NUMBER:
        try:
            frame[name] = pd.to_numeric(values)
        except (ValueError, TypeError):
            raise ArtifactError(f"{path}: column {name!r} holds something that is not a number") from None
