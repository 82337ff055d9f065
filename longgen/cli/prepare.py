"""`longgen prepare`: corpus and training rows."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config
from longgen.errors import ConfigError


class What(StrEnum):
    """What to prepare."""

    corpus = "corpus"
    base = "base"
    extension = "extension"


def prepare(
    config: Config,
    stage: Annotated[What, typer.Option(help="The corpus, or the training rows of a stage.")],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    corpus: Annotated[Path | None, typer.Option(help="Folder of the prepared corpus (for training rows).")] = None,
    result: Annotated[Path | None, typer.Option(help="Results file to write (for the corpus).")] = None,
) -> None:
    """Tokenise and split the corpus, or pack the rows of a training stage."""
    from longgen.config import load_experiment, needed
    from longgen.data.synthetic.corpus import build_corpus, load_corpus
    from longgen.data.synthetic.rows import build_rows
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    experiment = load_experiment(config)
    if stage is What.corpus:
        records = build_corpus(needed(experiment.data, "data"), output)
        if result is not None:
            settings = experiment.section("data")
            origin = provenance(settings, experiment.seed)
            save_result(result, Result("corpus", experiment.name, records, origin, settings=settings))
        return
    if corpus is None:
        raise ConfigError("--corpus is missing: give the folder made by `longgen prepare CONFIG --stage corpus`")
    text = load_corpus(corpus)
    training = needed(experiment.base, "base") if stage is What.base else experiment.extension
    if training.packed is not None:
        raise ConfigError(f"{stage}.packed is {training.packed}: `longgen pack` makes these rows")
    build_rows(training, text.train, text.fingerprint, experiment.seed, stage.value, output)
