"""`longgen gates`: the gates of DuoAttention, learned on the full variant."""

from __future__ import annotations

from longgen.cli.machine import on_this_machine, use_threads
from longgen.cli.options.evaluation import GatesOptions
from longgen.config import load_experiment
from longgen.training.learn_gates import learn_gates


def gates(options: GatesOptions) -> None:
    """Learn the gates and write them."""
    experiment = on_this_machine(load_experiment(options.config), "benchmarks")
    use_threads(options.threads)
    learn_gates(experiment, options.model, options.output, options.corpus)
