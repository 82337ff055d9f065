"""The two training stages of an experiment: from configuration and rows to a saved model and its loss curve."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

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
from longgen.training.parallel.processes import Processes


def train_base(
    experiment: Experiment,
    rows: Path,
    tokenizer: Path,
    output: Path,
    result: Path,
    checkpoint: Path,
    processes: Processes | None = None,
) -> None:
    """Pretrain the experiment's base model from random weights.

    Args:
        experiment: shape of the model, phases and optimizer (``base``), seed.
        rows: folder made by `longgen.data.rows.build_rows` for stage ``base``.
        tokenizer: folder of the tokenizer to save with the model.
        output: folder for the model, in Hugging Face format.
        result: results file (kind ``training``) to write.
        checkpoint: folder for the checkpoints of an interrupted run.
        processes: who takes part; None for one process.
    """
    torch.manual_seed(experiment.seed)
    model = LlamaForCausalLM(base_config(experiment.model, experiment.base.max_length))
    settings = experiment.section("model", "base")
    job = _Job(experiment, experiment.base, "base", None, settings, {}, processes or Processes())
    _run(model, job, rows, tokenizer, output, result, checkpoint)


def train_extension(
    experiment: Experiment,
    rows: Path,
    source: Path,
    variant: str,
    output: Path,
    result: Path,
    checkpoint: Path,
    processes: Processes | None = None,
) -> None:
    """Extend the context of a converted model by fine-tuning all its weights with its hybrid attention in place.

    Args:
        experiment: phases and optimizer (``extension``), seed.
        rows: folder made by `longgen.data.rows.build_rows` for stage ``extension``.
        source: converted model (`longgen.modeling.convert_checkpoint`).
        variant: its name, for the results file.
        output: folder for the model, in Hugging Face format.
        result: results file (kind ``training``) to write.
        checkpoint: folder for the checkpoints of an interrupted run.
        processes: who takes part; None for one process.

    Raises:
        ArtifactError: ``source`` is not a model folder.
    """
    if not (source / "config.json").is_file():
        raise ArtifactError(f"{source} has no config.json: `longgen convert` makes the model to extend")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    settings = experiment.section("extension") | {"variant": variant, "longgen": model.config.longgen}
    inputs = {"model": fingerprint_files(sorted(source.glob("*.safetensors")))}
    job = _Job(experiment, experiment.extension, "extension", variant, settings, inputs, processes or Processes())
    _run(model, job, rows, source, output, result, checkpoint)


class _Job(NamedTuple):
    """What is trained, by whom, and what determines the result."""

    experiment: Experiment
    training: TrainingSettings
    stage: str
    variant: str | None
    settings: dict[str, Any]
    inputs: dict[str, str]
    processes: Processes


def _run(model: Any, job: _Job, rows: Path, tokenizer: Path, output: Path, result: Path, checkpoint: Path) -> None:
    phases, rows_fingerprint = load_rows(rows)
    inputs, seed, processes = job.inputs | {"rows": rows_fingerprint}, job.experiment.seed, job.processes
    # Threads and version too: they change the last bits, and a resumed run must end with the same ones. Not the
    # processes: with another number of them a run goes on with what it has.
    identity = fingerprint([job.settings, inputs, seed, torch.__version__, torch.get_num_threads()])
    label = f"train {job.variant or job.stage}"
    progress = train(model, phases, job.training, job.stage, identity, checkpoint, label, processes)
    state = processes.whole_state(model)
    if processes.rank > 0:
        return
    with atomic_directory(output) as folder:
        model.save_pretrained(folder, state_dict=state)
        for file in companions(tokenizer):
            shutil.copyfile(file, folder / file.name)
    attention = {} if job.variant is None else model.attention_kernels()
    origin = provenance(job.settings, seed, str(model.device), inputs, attention)
    save_result(result, Result("training", job.experiment.name, progress.records, origin, job.variant, job.settings))
    shutil.rmtree(checkpoint, ignore_errors=True)
