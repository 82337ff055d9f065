"""Scores of predictions, as the official evaluate.py and its string_match_all and string_match_part give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from longgen.evaluation.ruler.tasks import find_task
from longgen.evaluation.samples import Sample

CONTROL = re.compile(r"[\x00-\x1f]")


def cleaned(prediction: str) -> str:
    """A prediction with newlines for control characters, and nothing blank around it."""
    return CONTROL.sub("\n", prediction.strip()).strip()


def score(sample: Sample, prediction: str) -> float:
    """How right a prediction is, 0 to 1, letters' case aside.

    Args:
        sample: of one of the 13 tasks.
        prediction: text after the prompt.

    Returns:
        the share of answers that the prediction contains; for the tasks ``qa`` 1 if it contains any, else 0.
    """
    text = cleaned(prediction).lower()
    matches = [1.0 if answer.lower() in text else 0.0 for answer in sample.answers]
    return max(matches) if find_task(sample.task).match == "part" else sum(matches) / len(matches)


def null_count(predictions: Iterable[str]) -> int:
    """How many predictions are empty, which the official table lists as ``Nulls``."""
    return sum(not cleaned(prediction) for prediction in predictions)
