"""Perplexity against full attention's, with an interval where both are known to have read the same documents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from longgen.reporting.run import Run
from longgen.statistics import bootstrap_interval

OVER_FULL = "perplexity_over_full"
DIFFERENCE = [OVER_FULL, f"{OVER_FULL}_low", f"{OVER_FULL}_high"]
# Why a difference has no interval; empty where it has one, or where there is nothing to compare.
UNPAIRED = "unpaired"
OTHER_DOCUMENTS, NOT_STORED, ONE_DOCUMENT = "other documents", "not stored", "one document"
_WHERE = ("source", "position_start", "position_end")


def with_difference(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with perplexity over that of full attention at the same positions of the same text, minus 1.

    Documents differ far more than variants do. So the interval is a bootstrap over documents of the difference of each
    document's loss: of pairs, which takes the fingerprint of the documents' tokens to be the same in both files.

    Args:
        run: whose files say which documents were read.
        rows: records of its kind ``perplexity``.

    Returns:
        Further columns `DIFFERENCE`, missing where full attention was not asked; the ends of the interval also where it
        is not known, and `UNPAIRED`, which says why.
    """
    texts = _texts(run)
    records = rows.to_dict("records")
    full = {_where(row): row for row in records if row["variant"] == "full"}
    differences = [_difference(row, full.get(_where(row)), texts) for row in records]
    return rows.join(pd.DataFrame(differences, rows.index, [*DIFFERENCE, UNPAIRED]))


def _where(row: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _WHERE)


def _texts(run: Run) -> dict[tuple[str, str], str | None]:
    """The fingerprint of the documents' tokens, in order, by variant and source; None in files that lack it."""
    return {
        (result.variant or "base", record["source"]): (result.provenance.get("inputs") or {}).get("text")
        for result in run.results
        if result.kind == "perplexity"
        for record in result.records
    }


def _difference(
    row: dict[Any, Any], full: dict[Any, Any] | None, texts: dict[tuple[str, str], str | None]
) -> tuple[float, float, float, str]:
    if full is None:
        return math.nan, math.nan, math.nan, ""
    value = math.expm1(row["nll"] - full["nll"])
    if row["variant"] == "full":
        return value, math.nan, math.nan, ""
    text, full_text = (texts[each["variant"], each["source"]] for each in (row, full))
    if row["n"] != full["n"] or (text and full_text and text != full_text):
        return value, math.nan, math.nan, OTHER_DOCUMENTS
    losses = [each["nll_by_document"] for each in (row, full)]
    if not all(isinstance(each, list) for each in losses) or not text or not full_text:
        return value, math.nan, math.nan, NOT_STORED
    if row["n"] < 2:
        return value, math.nan, math.nan, ONE_DOCUMENT
    low, high = bootstrap_interval(np.subtract(*losses))
    return value, math.expm1(low), math.expm1(high), ""
