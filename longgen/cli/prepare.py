"""`longgen prepare`: corpus and training rows."""

from __future__ import annotations

from longgen.cli.options.data import PrepareOptions, PrepareStage
from longgen.config import load_experiment, require_part
from longgen.data.synthetic.corpus import build_corpus, load_corpus
from longgen.errors import ConfigError
from longgen.provenance import provenance
from longgen.results import Result, save_result
from longgen.training.rows import build_rows


def prepare(options: PrepareOptions) -> None:
    """Make the corpus, or the rows of a stage, and write the results file of the corpus."""
    experiment, stage = load_experiment(options.config), options.stage
    if stage is PrepareStage.corpus:
        records = build_corpus(require_part(experiment.data, "data"), options.output)
        if options.result is not None:
            settings = experiment.section("data")
            origin = provenance(settings, experiment.seed)
            save_result(options.result, Result("corpus", experiment.name, records, origin, settings=settings))
        return
    if options.corpus is None:
        raise ConfigError("--corpus is missing: give the folder made by `longgen prepare CONFIG --stage corpus`")
    text = load_corpus(options.corpus)
    training = require_part(experiment.base, "base") if stage is PrepareStage.base else experiment.extension
    if training.packed is not None:
        raise ConfigError(f"{stage}.packed is {training.packed}: `longgen pack` makes these rows")
    build_rows(training, text.train, text.fingerprint, experiment.seed, stage.value, options.output)
