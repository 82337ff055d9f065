"""BABILong (Kuratov et al. 2024, arXiv 2406.10149): prompts, scores and averages as its own code has them."""

from longgen.evaluation.babilong.prompts import TASKS, prepare
from longgen.evaluation.babilong.records import CONFIGS
from longgen.evaluation.babilong.scoring import accuracy, average, score, summarise

__all__ = ["CONFIGS", "TASKS", "accuracy", "average", "prepare", "score", "summarise"]
