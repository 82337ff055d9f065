"""LongBench's numbers for tables: percent of a set, by LongBench-E's intervals, and by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from longgen.evaluation.longbench.prompts import BUCKETS
from longgen.evaluation.protocol import protocol
from longgen.strict import require


def set_score(scores: Sequence[float]) -> float:
    """Mean of a set in percent, to two decimals, as eval.py prints it.

    Raises:
        ConfigError: there are no scores.
    """
    require(len(scores) > 0, "scores", list(scores), "one or more")
    return round(100 * sum(scores) / len(scores), 2)


def bucket_scores(scores: Sequence[float], buckets: Sequence[str]) -> dict[str, float]:
    """Mean of every interval of LongBench-E in percent, to two decimals, as ``eval.py --e`` prints it.

    Args:
        scores: of one set.
        buckets: of the same samples, ``meta["bucket"]``.

    Returns:
        by interval; one without samples is left out (eval.py prints NaN).
    """
    parts = {name: [s for s, b in zip(scores, buckets, strict=True) if b == name] for name in BUCKETS}
    return {name: round(100 * float(np.mean(part)), 2) for name, part in parts.items() if part}


def averages(scores: Mapping[str, float], language: Literal["en", "zh"]) -> dict[str, float]:
    """Means by category, and ``average``, the mean of the six categories: the tables of the benchmark's README.

    Code counts in both languages. A category lacking a set's score is left out, and so is the average then.

    Args:
        scores: of sets, in any unit, by name, with or without ``_e``; LongBench-E has no Chinese sets.
        language: English or Chinese.
    """
    plain = {name.removesuffix("_e"): value for name, value in scores.items()}
    require(len(plain) == len(scores), "scores", sorted(scores), "those of LongBench or of LongBench-E, not both")
    balanced = all(name.endswith("_e") for name in scores)
    members: dict[str, list[str]] = {}
    for name, rules in protocol("longbench")["sets"].items():
        if rules["language"] in (language, "code") and (not balanced or rules.get("length_balanced")):
            members.setdefault(rules["category"], []).append(name)
    means = {
        category: sum(plain[name] for name in names) / len(names)
        for category, names in members.items()
        if all(name in plain for name in names)
    }
    if means and len(means) == len(members):
        means["average"] = sum(means.values()) / len(means)
    return means
