"""LongBench's score of one answer, and its numbers for tables: percent of a set, and by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from longgen.evaluation.longbench.metrics import METRICS
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.summaries import Cell, Summary
from longgen.strict import require


def score(sample: Sample, prediction: str) -> dict[str, float]:
    """Scores of an answer.

    Of trec, triviaqa, samsum and lsht only the first line that is not empty counts.

    Args:
        sample: as `longgen.evaluation.longbench.prepare` makes it.
        prediction: what the model wrote, without special tokens.

    Returns:
        ``score``: the best of those with each right answer, 0 to 1 (eval.py). Of a set of LongBench-E once more as
        ``score, 0-4k`` and so on, by the record's length: ``eval.py --e`` prints the means of these.

    Raises:
        ConfigError: a Chinese set, and jieba is not installed.
        ArtifactError: the right answer is not of the set's form.
    """
    rules = protocol("longbench")["sets"][sample.task.removesuffix("_e")]
    if rules.get("first_line"):
        prediction = prediction.lstrip("\n").split("\n")[0]
    metric, classes = METRICS[rules["metric"]], sample.meta.get("classes", [])
    best = max((metric(prediction, answer, classes) for answer in sample.answers), default=0.0)
    return {"score": best} | ({f"score, {sample.meta['bucket']}": best} if sample.task.endswith("_e") else {})


def set_score(scores: Sequence[float]) -> float:
    """Mean of a set in percent, to two decimals, as eval.py prints it.

    Raises:
        ConfigError: there are no scores.
    """
    require(len(scores) > 0, "scores", list(scores), "one or more")
    return round(100 * sum(scores) / len(scores), 2)


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


def summarise(means: Mapping[Cell, float]) -> list[Summary]:
    """`averages` of LongBench in English (``en: ...``) and Chinese (``zh: ...``), and of LongBench-E (``e: ...``)."""
    summaries = []
    for length in dict.fromkeys(cell.length for cell in means):
        here = [cell for cell in means if cell.length == length and cell.metric == "score"]
        parts: tuple[tuple[str, Literal["en", "zh"], bool], ...] = (
            ("en", "en", False),
            ("zh", "zh", False),
            ("e", "en", True),
        )
        for prefix, language, balanced in parts:
            cells = tuple(cell for cell in here if cell.task.endswith("_e") == balanced)
            of_sets = {cell.task: set_score([means[cell]]) for cell in cells}
            for name, value in (averages(of_sets, language) if of_sets else {}).items():
                behind = _sets_of(name, language)
                score_cells = tuple(cell for cell in cells if cell.task.removesuffix("_e") in behind)
                summaries.append(Summary(f"{prefix}: {name}", length, score_cells, value))
    return summaries


def _sets_of(category: str, language: str) -> set[str]:
    return {
        name
        for name, rules in protocol("longbench")["sets"].items()
        if rules["language"] in (language, "code") and category in (rules["category"], "average")
    }
