"""All evaluations of one model in one process: importing and loading cost more than some of the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from longgen.config import Experiment, needed
from longgen.data.corpus import load_corpus
from longgen.errors import ArtifactError
from longgen.evaluation.perplexity import evaluate_perplexity
from longgen.evaluation.reduction import evaluate_reduction
from longgen.evaluation.retrieval import evaluate_retrieval
from longgen.files import fingerprint_files
from longgen.provenance import provenance
from longgen.results import Result, save_result


def evaluate_variant(
    experiment: Experiment, variant: str, model_folder: Path, corpus_folder: Path, output: Path
) -> None:
    """Evaluate the model in ``model_folder`` and write retrieval.json and perplexity.json to ``output``.

    Raises:
        ArtifactError: the model or the corpus is missing or damaged.
    """
    asked = needed(experiment.evaluation, "evaluation")
    opened = _open(experiment, model_folder, corpus_folder)
    seed = experiment.seed
    for kind, measure in (("retrieval", evaluate_retrieval), ("perplexity", evaluate_perplexity)):
        records = measure(opened.model, opened.text, asked, seed, f"{kind} {variant}")
        result = Result(kind, experiment.name, records, opened.origin, variant, opened.settings)
        save_result(output / f"{kind}.json", result)


def evaluate_kv_reduction(
    experiment: Experiment, method: str, model_folder: Path, corpus_folder: Path, output: Path
) -> None:
    """Evaluate the full model in ``model_folder`` with a reduced KV cache and write ``<method>.json`` to ``output``.

    Raises:
        ArtifactError: the model or the corpus is missing or damaged.
        ConfigError: the configuration has no ``evaluation.kv_reduction``.
    """
    opened = _open(experiment, model_folder, corpus_folder)
    records = evaluate_reduction(opened.model, opened.text, experiment, method, f"needle {method}")
    result = Result("kv-reduction", experiment.name, records, opened.origin, settings=opened.settings)
    save_result(output / f"{method}.json", result)


class _Opened(NamedTuple):
    """What an evaluation starts from."""

    model: Any
    text: np.ndarray
    settings: dict[str, Any]
    origin: dict[str, Any]


def _open(experiment: Experiment, model_folder: Path, corpus_folder: Path) -> _Opened:
    if not (model_folder / "config.json").is_file():
        raise ArtifactError(f"{model_folder} has no config.json: `longgen train --stage extension` makes the model")
    corpus = load_corpus(corpus_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    settings = experiment.section("evaluation")
    inputs = {"model": fingerprint_files(sorted(model_folder.glob("*.safetensors"))), "corpus": corpus.fingerprint}
    origin = provenance(settings, experiment.seed, str(model.device), inputs, model.attention_kernels())
    return _Opened(model, corpus.heldout, settings, origin)
