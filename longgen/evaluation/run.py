"""All evaluations of one model in one process: importing and loading cost more than some of the tasks."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from longgen.config import Experiment, needed
from longgen.data.corpus import load_corpus
from longgen.errors import ArtifactError
from longgen.evaluation.perplexity import evaluate_perplexity
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
    if not (model_folder / "config.json").is_file():
        raise ArtifactError(f"{model_folder} has no config.json: `longgen train --stage extension` makes the model")
    corpus = load_corpus(corpus_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    asked = needed(experiment.evaluation, "evaluation")
    settings, seed = experiment.section("evaluation"), experiment.seed
    inputs = {"model": fingerprint_files(sorted(model_folder.glob("*.safetensors"))), "corpus": corpus.fingerprint}
    origin = provenance(settings, seed, str(model.device), inputs, model.attention_kernels())
    for kind, measure in (("retrieval", evaluate_retrieval), ("perplexity", evaluate_perplexity)):
        records = measure(model, corpus.heldout, asked, seed, f"{kind} {variant}")
        save_result(output / f"{kind}.json", Result(kind, experiment.name, records, origin, variant, settings))
