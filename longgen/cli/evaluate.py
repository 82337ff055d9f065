"""`longgen evaluate`: retrieval and perplexity of a fine-tuned variant."""

from __future__ import annotations

from longgen.cli.machine import on_this_machine, use_threads
from longgen.cli.options.evaluation import EvaluateOptions
from longgen.config import load_experiment, require_part
from longgen.errors import require
from longgen.evaluation.run import evaluate_kv_reductions, evaluate_variant


def evaluate(options: EvaluateOptions) -> None:
    """Evaluate a variant, or the full one with its KV cache reduced."""
    experiment, variant, budget_of = load_experiment(options.config), options.variant, options.kv_budget_of
    experiment.variant(variant)
    if budget_of is not None:
        reduction = require_part(
            require_part(experiment.evaluation, "evaluation").kv_reduction, "evaluation.kv_reduction"
        )
        require(budget_of in reduction.budgets_of, "--kv-budget-of", budget_of, ", ".join(reduction.budgets_of))
        require(variant == "full", "--variant", variant, "full with --kv-budget-of")
    experiment = on_this_machine(experiment, "evaluation")
    use_threads(options.threads)
    if budget_of is not None:
        evaluate_kv_reductions(experiment, budget_of, options.model, options.corpus, options.gates, options.output)
    else:
        evaluate_variant(experiment, variant, options.model, options.corpus, options.output)
