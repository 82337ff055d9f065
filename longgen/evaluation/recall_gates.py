"""DuoAttention's gates for a byte-level model: learned on the needles that it was trained to find."""

from __future__ import annotations

from typing import Any

import numpy as np

from longgen.config import Experiment, require_part
from longgen.data.synthetic.documents import ANSWER_WEIGHT, needles_document
from longgen.evaluation.baselines.duo_attention import STREAMING
from longgen.evaluation.baselines.gates import optimise_gates, row_batches
from longgen.evaluation.baselines.gates_file import Gates


def needle_row(generator: np.random.Generator, text: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Needles in text, asked for at its end, as in training; what `passkey_row` is for models of language.

    Args:
        generator: of all randomness.
        text: token ids to hide them in.
        length: tokens of the row.

    Returns:
        token ids [length] int64, and [length] bool: the tokens whose next one is part of an answer. Their states must
        not move (our choice: the authors compare those of the answers, one later).
    """
    tokens, weights = needles_document(generator, text, length + 1)
    return tokens[:-1].astype(np.int64), weights[1:] == ANSWER_WEIGHT


def learn_gates(model: Any, text: np.ndarray, experiment: Experiment) -> Gates:
    """The gates of the full model, by ``evaluation.kv_reduction.duo_attention``.

    Args:
        model: the full variant, extended; its weights are not changed.
        text: token ids of the training text.
        experiment: also says the seed.
    """
    evaluation = require_part(experiment.evaluation, "evaluation")
    asked = require_part(evaluation.kv_reduction, "evaluation.kv_reduction").duo_attention
    pattern = STREAMING if asked.pattern is None else experiment.patterns[asked.pattern]
    length = asked.length or experiment.extension.max_length
    batches = row_batches(
        lambda generator: needle_row(generator, text, length), asked.steps, asked.batch_size, experiment.seed
    )
    return Gates(optimise_gates(model, batches, pattern, asked.learning_rate), pattern)
