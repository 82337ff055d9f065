"""`longgen gates`: the gates of DuoAttention, learned on the full variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Threads, use_threads


def gates(
    config: Config,
    model: Annotated[Path, typer.Option(help="Folder of the full variant, extended.")],
    corpus: Annotated[Path, typer.Option(help="Folder of the prepared corpus; its training text is used.")],
    output: Annotated[Path, typer.Option(help="File to write, such as gates.json.")],
    threads: Threads = 0,
) -> None:
    """Learn which heads of a full model need all tokens, for duo-attention; the model itself does not change."""
    from longgen.config import load_experiment

    experiment = load_experiment(config)

    from longgen.evaluation.run import learn_model_gates

    use_threads(threads)
    learn_model_gates(experiment, model, corpus, output)
