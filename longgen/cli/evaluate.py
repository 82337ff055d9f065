"""`longgen evaluate`: retrieval and perplexity of a fine-tuned variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Threads, VariantName, on_this_machine, use_threads
from longgen.strict import require


def evaluate(
    config: Config,
    model: Annotated[Path, typer.Option(help="Folder of the model.")],
    variant: VariantName,
    corpus: Annotated[Path, typer.Option(help="Folder of the prepared corpus; its held-out text is used.")],
    output: Annotated[Path, typer.Option(help="Folder for retrieval.json and perplexity.json, or for HYBRID.json.")],
    kv_budget_of: Annotated[
        str | None,
        typer.Option(
            metavar="HYBRID",
            help="Evaluate the full variant with its KV cache reduced at inference to the bytes of this hybrid, by all "
            "methods of `evaluation.kv_reduction`.",
            show_default="no reduction",
        ),
    ] = None,
    gates: Annotated[
        Path | None, typer.Option(help="With --kv-budget-of: file of `longgen gates`, for duo-attention.")
    ] = None,
    threads: Threads = 0,
) -> None:
    """Needles, variables and common words (`evaluation.tasks`), and perplexity by position."""
    from longgen.config import load_experiment, needed

    experiment = on_this_machine(load_experiment(config), "evaluation")
    experiment.variant(variant)

    if kv_budget_of is not None:
        reduction = needed(needed(experiment.evaluation, "evaluation").kv_reduction, "evaluation.kv_reduction")
        require(kv_budget_of in reduction.budgets_of, "--kv-budget-of", kv_budget_of, ", ".join(reduction.budgets_of))
        require(variant == "full", "--variant", variant, "full with --kv-budget-of")
    require(gates is None or kv_budget_of is not None, "--gates", gates, "given with --kv-budget-of alone")

    from longgen.evaluation.run import evaluate_kv_reductions, evaluate_variant

    use_threads(threads)
    if kv_budget_of is not None:
        evaluate_kv_reductions(experiment, kv_budget_of, model, corpus, gates, output)
    else:
        evaluate_variant(experiment, variant, model, corpus, output)
