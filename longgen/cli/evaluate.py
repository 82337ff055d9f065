"""`longgen evaluate`: retrieval and perplexity of a fine-tuned variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Threads, VariantName, use_threads


def evaluate(
    config: Config,
    model: Annotated[Path, typer.Option(help="Folder of the model.")],
    variant: VariantName,
    corpus: Annotated[Path, typer.Option(help="Folder of the prepared corpus; its held-out text is used.")],
    output: Annotated[Path, typer.Option(help="Folder for retrieval.json and perplexity.json.")],
    threads: Threads = 0,
) -> None:
    """Needle grid, multi-key needles and variable tracking by exact match, and perplexity by position."""
    from longgen.config import load_experiment

    experiment = load_experiment(config)
    experiment.variant(variant)

    from longgen.evaluation.run import evaluate_variant

    use_threads(threads)
    evaluate_variant(experiment, variant, model, corpus, output)
