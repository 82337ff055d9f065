"""Outputs of a model that are no numbers are refused where they would become a result: an argmax of NaN is token 0."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor

from longgen.errors import ArtifactError


def no_number(model: Any, what: str) -> ArtifactError:
    """The error to raise where ``what``, such as "the loss is not a number", is found; it names the model's folder."""
    name, dtype = model.name_or_path or type(model).__name__, str(model.dtype).removeprefix("torch.")
    narrow = f", or dtype {dtype} is too narrow (float32 is widest)" if model.dtype.itemsize < 4 else ""
    return ArtifactError(f"{name}: {what}: config.json or weights are damaged{narrow}")


def check_scores(model: Any, scores: torch.Tensor) -> None:
    """Check that every row of ``scores`` [rows, vocabulary] has a best token.

    The maximum says all: NaN anywhere makes it NaN, an overflow infinite, and where no token is possible it is -inf.

    Raises:
        ArtifactError: a row has none.
    """
    best = scores.amax(-1)
    if not bool(best.isfinite().all()):
        value = best[~best.isfinite()][0].item()
        raise no_number(model, f"the best score of the next token is {value}, which is not a number to choose by")


class FiniteScores(LogitsProcessor):
    """`check_scores` at every step of ``model.generate``; changes none of them."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """See `LogitsProcessor`. Raises ArtifactError as `check_scores`."""
        check_scores(self.model, scores)
        return scores
