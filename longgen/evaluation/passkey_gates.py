"""DuoAttention's gates for a model of language: learned on pass keys in text, as the authors do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from longgen.config import Experiment, require_part
from longgen.data.sources import SourceSettings, load_documents
from longgen.data.tokenization import TextEncoder
from longgen.evaluation.baselines.duo_attention import STREAMING
from longgen.evaluation.baselines.gates import optimise_gates, passkey_row, row_batches
from longgen.evaluation.baselines.gates_file import Gates, save_gates, weights_fingerprint
from longgen.evaluation.runs.model import load_model
from longgen.provenance import provenance

# What every machine has (our choice); the authors' rows are of books.
TEXT = SourceSettings("pydoc-topics")


def learn_passkey_gates(experiment: Experiment, model_folder: Path, output: Path) -> None:
    """Learn the gates of the full model in a folder, by ``benchmarks.kv_reduction``, and write them to a file.

    Raises:
        ArtifactError: it is no model folder.
        ConfigError: the configuration has no ``benchmarks.kv_reduction``, or rows are too short for the pass keys.
    """
    benchmarks = require_part(experiment.benchmarks, "benchmarks")
    asked = require_part(benchmarks.kv_reduction, "benchmarks.kv_reduction").duo_attention
    pattern = STREAMING if asked.pattern is None else experiment.patterns[asked.pattern]
    model, tokenizer = load_model(model_folder, getattr(torch, benchmarks.dtype), benchmarks.device)
    length = asked.length or experiment.extension.max_length

    encoder = TextEncoder(tokenizer)

    def encode(text: str) -> np.ndarray:
        return np.asarray(encoder(text), dtype=np.int64)

    text = encode("\n".join(document.text for document in load_documents(TEXT)))
    text = np.tile(text, length // len(text) + 1)

    def row(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return passkey_row(generator, text, encode, length)

    batches = row_batches(row, asked.steps, asked.batch_size, experiment.seed)
    learned = Gates(optimise_gates(model, batches, pattern, asked.learning_rate), pattern)
    inputs = {"model": weights_fingerprint(model_folder)}
    settings = experiment.section("benchmarks")
    origin = provenance(settings, experiment.seed, str(model.device), inputs, model.attention_kernels())
    save_gates(output, learned, model_folder, origin)
