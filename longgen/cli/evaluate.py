"""`longgen evaluate`: retrieval and perplexity of a fine-tuned variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Threads, VariantName, use_threads
from longgen.evaluation.names import KV_REDUCTIONS
from longgen.strict import require


def evaluate(
    config: Config,
    model: Annotated[Path, typer.Option(help="Folder of the model.")],
    variant: VariantName,
    corpus: Annotated[Path, typer.Option(help="Folder of the prepared corpus; its held-out text is used.")],
    output: Annotated[Path, typer.Option(help="Folder for retrieval.json and perplexity.json, or for METHOD.json.")],
    kv_reduction: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            help="Ask the full variant for needles with its KV cache reduced at inference, to the bytes of a hybrid: "
            f"{', '.join(KV_REDUCTIONS)}.",
            show_default="no reduction",
        ),
    ] = None,
    threads: Threads = 0,
) -> None:
    """Needle grid, multi-key needles and variable tracking by exact match, and perplexity by position."""
    from longgen.config import load_experiment

    experiment = load_experiment(config)
    experiment.variant(variant)

    if kv_reduction is not None:
        require(kv_reduction in KV_REDUCTIONS, "--kv-reduction", kv_reduction, ", ".join(KV_REDUCTIONS))
        require(variant == "full", "--variant", variant, "full with --kv-reduction")

    from longgen.evaluation.run import evaluate_kv_reduction, evaluate_variant

    use_threads(threads)
    if kv_reduction is not None:
        evaluate_kv_reduction(experiment, kv_reduction, model, corpus, output)
    else:
        evaluate_variant(experiment, variant, model, corpus, output)
