"""LongBench's score of one answer."""

from __future__ import annotations

from longgen.evaluation.longbench.metrics import METRICS
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample


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
