"""All evaluations of one model in one process: importing and loading cost more than some of the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from longgen.config import Experiment, require_part
from longgen.data.synthetic.corpus import Corpus, load_corpus
from longgen.errors import ArtifactError
from longgen.evaluation.baselines.gates_file import read_gates, save_gates, weights_fingerprint
from longgen.evaluation.perplexity import evaluate_perplexity
from longgen.evaluation.recall_gates import learn_gates
from longgen.evaluation.reduction import evaluate_reductions
from longgen.evaluation.retrieval import evaluate_retrieval
from longgen.hardware import require_gpu
from longgen.modeling.loading import load_complete
from longgen.provenance import provenance
from longgen.results import Result, save_result
from longgen.strict import require


def evaluate_variant(
    experiment: Experiment, variant: str, model_folder: Path, corpus_folder: Path, output: Path
) -> None:
    """Evaluate the model in ``model_folder`` and write retrieval.json and perplexity.json to ``output``.

    Raises:
        ArtifactError: the model or the corpus is missing or damaged.
        ConfigError: there is less held-out text than a length, or no GPU where one is asked for.
    """
    asked = require_part(experiment.evaluation, "evaluation")
    opened = _open(experiment, model_folder, corpus_folder)
    seed = experiment.seed
    for kind, measure in (("retrieval", evaluate_retrieval), ("perplexity", evaluate_perplexity)):
        records = measure(opened.model, opened.corpus.heldout, asked, seed, f"{kind} {variant}")
        result = Result(kind, experiment.name, records, opened.origin, variant, opened.settings)
        save_result(output / f"{kind}.json", result)


def evaluate_kv_reductions(
    experiment: Experiment, budget_of: str, model_folder: Path, corpus_folder: Path, gates: Path | None, output: Path
) -> None:
    """Evaluate the full model in ``model_folder``, its KV cache reduced to what the hybrid ``budget_of`` keeps.

    Args:
        experiment: its ``evaluation.kv_reduction`` names the methods.
        budget_of: one of the ``budgets_of`` there.
        model_folder: the full variant, extended.
        corpus_folder: its held-out text is used.
        gates: file of `learn_model_gates`, for duo-attention.
        output: folder of the results file ``<budget_of>.json``.

    Raises:
        ArtifactError: the model, the corpus or the gates are missing or damaged, or the gates are of another model.
        ConfigError: the configuration has no ``evaluation.kv_reduction``, gates are needed and not given, or there
            is less held-out text than a length.
    """
    learned = None if gates is None else read_gates(gates, model_folder)
    opened = _open(experiment, model_folder, corpus_folder)
    records = evaluate_reductions(opened.model, opened.corpus.heldout, experiment, budget_of, learned)
    result = Result("kv-reduction", experiment.name, records, opened.origin, settings=opened.settings)
    save_result(output / f"{budget_of}.json", result)


def learn_model_gates(experiment: Experiment, model_folder: Path, corpus_folder: Path, output: Path) -> None:
    """Learn DuoAttention's gates of the full model in ``model_folder`` and write them to the file ``output``.

    Raises:
        ArtifactError: the model or the corpus is missing or damaged.
        ConfigError: the configuration has no ``evaluation.kv_reduction``.
    """
    opened = _open(experiment, model_folder, corpus_folder)
    learned = learn_gates(opened.model, opened.corpus.train, experiment)
    save_gates(output, learned, model_folder, opened.origin)


class _Opened(NamedTuple):
    """What an evaluation starts from."""

    model: Any
    corpus: Corpus
    settings: dict[str, Any]
    origin: dict[str, Any]


def _open(experiment: Experiment, model_folder: Path, corpus_folder: Path) -> _Opened:
    asked = require_part(experiment.evaluation, "evaluation")
    require_gpu("evaluation.device", asked.device)
    if not (model_folder / "config.json").is_file():
        raise ArtifactError(f"{model_folder} has no config.json: `longgen train --stage extension` makes the model")
    corpus = load_corpus(corpus_folder)
    reduced = asked.kv_reduction.lengths or [] if asked.kv_reduction else []
    longest, available = max(asked.lengths + reduced), len(corpus.heldout)
    require(longest < available, "evaluation.lengths", longest, f"less than the {available} tokens of held-out text")
    otherwise = "`longgen train --stage extension` makes the model anew"
    model = load_complete(model_folder, otherwise, dtype=getattr(torch, asked.dtype)).to(asked.device).eval()
    settings = experiment.section("evaluation")
    inputs = {"model": weights_fingerprint(model_folder), "corpus": corpus.fingerprint}
    origin = provenance(settings, experiment.seed, str(model.device), inputs, model.attention_kernels())
    return _Opened(model, corpus, settings, origin)
