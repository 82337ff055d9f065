"""BABILong's score of one answer (babilong/metrics.py, `compare_answers`), and its averages in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.sources import require_field
from longgen.evaluation.summaries import Cell, Summary
from longgen.strict import require


def first_sentence(prediction: str) -> str:
    """The part of an answer that is looked at: up to a period, or to an example or a context that the model makes up.

    In lower case, and not cut at "Question": the benchmark looks for the capital after it has made all letters small.
    """
    return prediction.lower().split(".")[0].split("<context>")[0].split("<example>")[0]


def score(sample: Sample, prediction: str) -> float:
    """1 if the answer names the right label, or all of several, and no other one; otherwise 0.

    Labels that the question names never count. A label is named where it occurs, be it within another word: "none" of
    qa7 names "one" as well, so that the benchmark counts it as wrong where it is right.

    Args:
        sample: as `longgen.evaluation.babilong.prepare` makes it.
        prediction: what the model wrote.
    """
    (target,) = sample.answers
    answer, question = first_sentence(prediction), sample.meta["question"]
    labels = {label for label in counted_labels(sample.task, question) if label in answer}
    targets = target_labels(target)
    return float(labels.issuperset(targets) and len(labels) == len(targets))


def require_scorable(task: str, question: str, target: str, place: str, name: str) -> None:
    """Raise ArtifactError unless an answer can be right: ``target`` is what ``place`` has as ``name``."""
    labels = counted_labels(task, question)
    allowed = f"a label of {task} that the question does not name: {', '.join(sorted(labels))}"
    require_field(labels.issuperset(target_labels(target)), place, name, target, allowed)


def counted_labels(task: str, question: str) -> set[str]:
    """The labels of a task that count in an answer to ``question``: those that it does not name itself."""
    labels = {label.lower() for label in protocol("babilong")["tasks"][task]["labels"]}
    return {label for label in labels if label not in question.lower()}


def target_labels(target: str) -> list[str]:
    """The labels that a right answer is made of: several in qa8, such as "apple,milk"."""
    several = "," in target and len(target) > 3  # not qa19's directions, which are one label: "n,w"
    return target.lower().split(",") if several else [target.lower()]


def accuracy(scores: Sequence[float]) -> float:
    """Percent of right answers of a task at a length (collect_results.py).

    Raises:
        ConfigError: there are no scores.
    """
    require(len(scores) > 0, "scores", list(scores), "one or more")
    return 100 * sum(scores) / len(scores)


def average(accuracies: Mapping[str, float]) -> float | None:
    """Mean over qa1 to qa5 at one length, the benchmark's ``avg``; None where one of them is missing.

    Args:
        accuracies: of tasks at one length, by name; those of other tasks are not used.
    """
    tasks = protocol("babilong")["averaged"]
    if any(task not in accuracies for task in tasks):
        return None
    return sum(accuracies[task] for task in tasks) / len(tasks)


def summarise(means: Mapping[Cell, float]) -> list[Summary]:
    """`average` at every length at which it exists."""
    summaries = []
    for length in dict.fromkeys(cell.length for cell in means):
        here = {cell.task: cell for cell in means if cell.length == length}
        value = average({task: accuracy([means[cell]]) for task, cell in here.items()})
        if value is not None:
            cells = tuple(here[task] for task in protocol("babilong")["averaged"])
            summaries.append(Summary("average", length, cells, value))
    return summaries
