"""LongBench's score of one answer."""

from __future__ import annotations

from longgen.evaluation.longbench.metrics import METRICS
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample


def score(sample: Sample, prediction: str) -> float:
    """The best of the scores with each right answer, 0 to 1 (eval.py).

    Of trec, triviaqa, samsum and lsht only the first line that is not empty counts.

    Args:
        sample: as `longgen.evaluation.longbench.prepare` makes it.
        prediction: what the model wrote, without special tokens.

    Raises:
        ConfigError: a Chinese set, and jieba is not installed.
        ArtifactError: the right answer is not of the set's form.
    """
    rules = protocol("longbench")["sets"][sample.task.removesuffix("_e")]
    if rules.get("first_line"):
        prediction = prediction.lstrip("\n").split("\n")[0]
    metric, classes = METRICS[rules["metric"]], sample.meta.get("classes", [])
    return max((metric(prediction, answer, classes) for answer in sample.answers), default=0.0)
