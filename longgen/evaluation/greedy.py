"""Greedy decoding: what every answer is decoded by, whatever a checkpoint's own generation defaults say."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LogitsProcessorList  # whoever scores answers alone does without


def end_tokens(model: Any) -> list[int]:
    """The tokens at which a model itself ends an answer, from its generation defaults."""
    ends = model.generation_config.eos_token_id
    return list(ends) if isinstance(ends, (list, tuple)) else [] if ends is None else [ends]


@contextlib.contextmanager
def greedy_decoding(model: Any) -> Iterator[LogitsProcessorList]:
    """Within it, ``model.generate`` is greedy: nothing is sampled, penalised, suppressed or searched for.

    What it gives is `generate`'s ``logits_processor``, which refuses scores that are no numbers.

    Of the generation defaults that a checkpoint brings, end-of-text tokens alone count. What it may also have
    (repetition penalties, beams, suppressed tokens, least lengths, ...) would be part of some answers and not of those
    of KV reductions, which have a loop of their own. To hand `generate` a configuration is not enough: it fills what
    that leaves open with the model's.

    Args:
        model: a Hugging Face causal LM; it has its own defaults again afterwards.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    from longgen.evaluation.finite import FiniteScores

    own = model.generation_config
    model.generation_config = GenerationConfig(do_sample=False, num_beams=1, eos_token_id=end_tokens(model) or None)
    try:
        yield LogitsProcessorList([FiniteScores(model)])
    finally:
        model.generation_config = own


def until_end(tokens: list[int], ends: Collection[int]) -> list[int]:
    """``tokens`` to the first of ``ends``, which is the last that the model said; a batch has filler after it."""
    places = [place for place, token in enumerate(tokens) if token in ends]
    return tokens[: places[0] + 1] if places else tokens
