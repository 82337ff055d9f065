"""`longgen gates`: the gates of DuoAttention, learned on the full variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Threads, on_this_machine, use_threads


def gates(
    config: Config,
    model: Annotated[Path, typer.Option(help="Folder of the full variant, extended.")],
    output: Annotated[Path, typer.Option(help="File to write, such as gates.json.")],
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="For `evaluation.kv_reduction`: folder of the prepared corpus; its training text is used.",
            show_default="for `benchmarks.kv_reduction`, on pass keys in the model's own tokens",
        ),
    ] = None,
    threads: Threads = 0,
) -> None:
    """Learn which heads of a full model need all tokens, for duo-attention; the model itself does not change."""
    from longgen.config import load_experiment

    experiment = on_this_machine(load_experiment(config), "evaluation", "benchmarks")

    use_threads(threads)
    if corpus is None:
        from longgen.evaluation.passkey_gates import learn_passkey_gates

        learn_passkey_gates(experiment, model, output)
    else:
        from longgen.evaluation.run import learn_model_gates

        learn_model_gates(experiment, model, corpus, output)
