"""A tiny valid experiment, for every test that needs a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from longgen.config import load_experiment
from longgen.data.synthetic.corpus import build_corpus, load_corpus
from longgen.training.rows import build_rows


def tiny_settings() -> dict[str, Any]:
    """A fresh mapping, free to be changed: 6 layers, blocks of 8 tokens, extension from 64 to 256 tokens."""
    phase = {"length": 64, "batch_size": 2, "steps": 2, "learning_rate": 1e-3, "mixture": {"text": 0.5, "needles": 0.5}}
    return {
        "name": "tiny",
        "seed": 7,
        "data": {"sources": [{"kind": "pydoc-topics"}]},
        "model": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        "base": {"phases": [phase]},
        "extension": {"phases": [phase | {"length": 128}, phase | {"length": 256}], "rope_theta": 40000.0},
        "patterns": {
            "sink": {"block_size": 8, "sink_blocks": 1, "local_blocks": 4},
            "stride": {"block_size": 8, "sink_blocks": 1, "local_blocks": 2, "stride": 4},
        },
        "variants": {
            "full": {"full_layers": "all"},
            "middle": {"full_layers": "1/3", "pattern": "sink"},
            "ends": {"full_layers": "1/3", "placement": "ends", "pattern": "stride"},
            "none": {"full_layers": "none", "pattern": "sink"},
        },
        "default_variants": ["full", "middle"],
        "benchmarks": {
            "suites": {"recall": {"lengths": [192, 256], "depths": [0.0, 0.5, 1.0], "samples": 2, "tasks": ["needle"]}},
            "perplexity": {"length": 256, "documents": 2, "bins": 16},
        },
        "profiling": {"lengths": [256, 512], "training_lengths": [128], "repeats": 3, "threads": 1},
    }


def experiment_file(folder: Path, settings: dict[str, Any] | None = None) -> Path:
    """Write ``settings``, or those of `tiny_settings`, to ``folder`` for `longgen.config.load_experiment`."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings or tiny_settings(), sort_keys=False), encoding="utf-8")
    return path


def prepare_base(config: Path) -> None:
    """Make the folders ``corpus`` and ``rows``, those of the base model, beside the experiment's file ``config``."""
    experiment = load_experiment(config)
    corpus = config.parent / "corpus"
    build_corpus(experiment.data, corpus)
    text = load_corpus(corpus)
    build_rows(experiment.base, text.train, text.fingerprint, experiment.seed, "base", config.parent / "rows")
