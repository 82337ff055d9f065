"""BABILong's score of one answer (babilong/metrics.py, `compare_answers`)."""

from __future__ import annotations

from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample


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
    labels = {label.lower() for label in protocol("babilong")["tasks"][sample.task]["labels"]}
    said, question = first_sentence(prediction), sample.meta["question"].lower()
    named = {label for label in labels if label in said and label not in question}
    several = "," in target and len(target) > 3  # not qa19's directions, which are one label: "n,w"
    wanted = target.lower().split(",") if several else [target.lower()]
    return float(named.issuperset(wanted) and len(named) == len(wanted))
