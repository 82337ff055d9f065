"""RULER (Hsieh et al. 2024, arXiv 2404.06654): the official prompts and scores of its 13 tasks."""

from longgen.evaluation.ruler.check import check
from longgen.evaluation.ruler.prepare import prepare
from longgen.evaluation.ruler.scoring import null_count, score, summarise
from longgen.evaluation.ruler.tasks import TASKS

__all__ = ["TASKS", "check", "null_count", "prepare", "score", "summarise"]
