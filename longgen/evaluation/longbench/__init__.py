"""LongBench v1 (Bai et al. 2023, arXiv 2308.14508): prompts, scores and averages as its own code has them."""

from longgen.evaluation.longbench.prompts import E_SETS, SETS, TASKS, prepare
from longgen.evaluation.longbench.scoring import averages, score, set_score, summarise

__all__ = ["E_SETS", "SETS", "TASKS", "averages", "prepare", "score", "set_score", "summarise"]
