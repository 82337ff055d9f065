"""The two training stages of an experiment: from configuration and rows to a saved model and its loss curve."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from longgen.config import Experiment, TrainingSettings
from longgen.data.rows import load_rows
from longgen.errors import ArtifactError
from longgen.files import atomic_directory, fingerprint_files
from longgen.modeling.base import base_config
from longgen.modeling.convert import companions
from longgen.provenance import fingerprint, provenance
from longgen.results import Result, save_result
from longgen.training.loop import train


def train_base(
    experiment: Experiment, rows: Path, tokenizer: Path, output: Path, result: Path, checkpoint: Path
) -> None:
    """Pretrain the experiment's base model from random weights.

    Args:
        experiment: shape of the model, phases and optimizer (``base``), seed.
        rows: folder made by `longgen.data.rows.build_rows` for stage ``base``.
        tokenizer: folder of the tokenizer to save with the model.
        output: folder for the model, in Hugging Face format.
        result: results file (kind ``training``) to write.
        checkpoint: folder for the checkpoint of an interrupted run.
    """
    torch.manual_seed(experiment.seed)
    model = LlamaForCausalLM(base_config(experiment.model, experiment.base.max_length))
    settings = experiment.section("model", "base")
    _run(model, experiment, experiment.base, "base", None, settings, {}, rows, tokenizer, output, result, checkpoint)


def train_extension(
    experiment: Experiment, rows: Path, source: Path, variant: str, output: Path, result: Path, checkpoint: Path
) -> None:
    """Extend the context of a converted model by fine-tuning all its weights with its hybrid attention in place.

    Args:
        experiment: phases and optimizer (``extension``), seed.
        rows: folder made by `longgen.data.rows.build_rows` for stage ``extension``.
        source: converted model (`longgen.modeling.convert_checkpoint`).
        variant: its name, for the results file.
        output: folder for the model, in Hugging Face format.
        result: results file (kind ``training``) to write.
        checkpoint: folder for the checkpoint of an interrupted run.

    Raises:
        ArtifactError: ``source`` is not a model folder.
    """
    if not (source / "config.json").is_file():
        raise ArtifactError(f"{source} has no config.json: `longgen convert` makes the model to extend")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    settings = experiment.section("extension") | {"variant": variant, "longgen": model.config.longgen}
    inputs = {"model": fingerprint_files(sorted(source.glob("*.safetensors")))}
    training = experiment.extension
    _run(model, experiment, training, "extension", variant, settings, inputs, rows, source, output, result, checkpoint)


def _run(
    model: Any,
    experiment: Experiment,
    training: TrainingSettings,
    stage: str,
    variant: str | None,
    settings: dict[str, Any],
    inputs: dict[str, str],
    rows: Path,
    tokenizer: Path,
    output: Path,
    result: Path,
    checkpoint: Path,
) -> None:
    phases, rows_fingerprint = load_rows(rows)
    inputs = inputs | {"rows": rows_fingerprint}
    # threads and version too: they change the last bits, and a resumed run must end with the same ones
    identity = fingerprint([settings, inputs, experiment.seed, torch.__version__, torch.get_num_threads()])
    progress = train(model, phases, training, stage, identity, checkpoint, f"train {variant or stage}")
    with atomic_directory(output) as folder:
        model.save_pretrained(folder)
        for file in companions(tokenizer):
            shutil.copyfile(file, folder / file.name)
    attention = {} if variant is None else model.attention_kernels()
    origin = provenance(settings, experiment.seed, str(model.device), inputs, attention)
    save_result(result, Result("training", experiment.name, progress.records, origin, variant, settings))
    shutil.rmtree(checkpoint, ignore_errors=True)
