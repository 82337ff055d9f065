"""`longgen gates`: the gates of DuoAttention, learned on the full variant."""

from __future__ import annotations

from longgen.cli.machine import on_this_machine, use_threads
from longgen.cli.options.evaluation import GatesOptions
from longgen.config import load_experiment
from longgen.evaluation.passkey_gates import learn_passkey_gates
from longgen.evaluation.run import learn_model_gates


def gates(options: GatesOptions) -> None:
    """Learn the gates and write them."""
    experiment = on_this_machine(load_experiment(options.config), "evaluation", "benchmarks")
    use_threads(options.threads)
    if options.corpus is None:
        learn_passkey_gates(experiment, options.model, options.output)
    else:
        learn_model_gates(experiment, options.model, options.corpus, options.output)
