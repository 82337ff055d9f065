"""DuoAttention's gates of a full model: learned on what it is to find in a long text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longgen.config import Experiment, require_part
from longgen.data.sources import SourceSettings, load_documents
from longgen.data.synthetic.corpus import load_corpus
from longgen.data.synthetic.documents import ANSWER_WEIGHT, needles_document
from longgen.data.tokenization import TextEncoder
from longgen.evaluation.baselines.duo_attention import STREAMING
from longgen.evaluation.baselines.gates import optimise_gates, passkey_row, row_batches
from longgen.evaluation.baselines.gates_file import Gates, save_gates, weights_fingerprint
from longgen.evaluation.recall import require_bytes
from longgen.evaluation.runs.model import load_model
from longgen.hardware import require_gpu
from longgen.provenance import provenance

# What every machine has (our choice); the authors' rows are of books.
TEXT = SourceSettings("pydoc-topics")

# token ids [length] int64, and which of them are asked for [length] bool, from a random generator
Row = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def learn_gates(experiment: Experiment, model_folder: Path, output: Path, corpus: Path | None = None) -> None:
    """Learn the gates by ``benchmarks.kv_reduction.duo_attention``, and write them to a file.

    Args:
        experiment: the configuration, whose seed is that of the rows.
        model_folder: the full variant, extended; it is not changed.
        output: the file.
        corpus: folder of the corpus of a model of bytes, which learns on needles in its training text, as it was
            trained to find them; None for pass keys in text, as the authors do.

    Raises:
        ArtifactError: there is no such model or corpus, or it is damaged.
        ConfigError: the configuration has no such part, or a device that is not there; the model does not read the
            bytes of the corpus; or rows are too short for the pass keys.
    """
    benchmarks = require_part(experiment.benchmarks, "benchmarks")
    duo_attention = require_part(benchmarks.kv_reduction, "benchmarks.kv_reduction").duo_attention
    require_gpu("benchmarks.device", benchmarks.device)
    pattern = STREAMING if duo_attention.pattern is None else experiment.patterns[duo_attention.pattern]
    length = duo_attention.length or experiment.extension.max_length
    inputs = {"model": weights_fingerprint(model_folder)}
    training_corpus = None if corpus is None else load_corpus(corpus)
    model, tokenizer = load_model(model_folder, getattr(torch, benchmarks.dtype), benchmarks.device)
    if training_corpus is None:
        row = _passkeys(tokenizer, length)
    else:
        require_bytes(tokenizer)
        inputs["corpus"] = training_corpus.fingerprint
        text = training_corpus.train

        def row(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            return needle_row(generator, text, length)

    batches = row_batches(row, duo_attention.steps, duo_attention.batch_size, experiment.seed)
    gates = Gates(optimise_gates(model, batches, pattern, duo_attention.learning_rate), pattern, asdict(duo_attention))
    settings = experiment.section("benchmarks")
    origin = provenance(settings, experiment.seed, str(model.device), inputs, model.attention_kernels())
    save_gates(output, gates, model_folder, origin)


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


def _passkeys(tokenizer: Any, length: int) -> Row:
    encoder = TextEncoder(tokenizer)

    def encode(text: str) -> np.ndarray:
        return np.asarray(encoder(text), dtype=np.int64)

    text = encode("\n".join(document.text for document in load_documents(TEXT)))
    text = np.tile(text, length // len(text) + 1)
    return lambda generator: passkey_row(generator, text, encode, length)
