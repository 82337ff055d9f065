"""BABILong's score of one answer (babilong/metrics.py, `compare_answers`)."""

from __future__ import annotations

from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.sources import require_field


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
