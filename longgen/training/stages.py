"""The two training stages of an experiment: from configuration and rows to a saved model and its loss curve."""

from __future__ import annotations

import math
import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from longgen.config import Experiment, SetupSettings, TrainingSettings, require_part
from longgen.files import atomic_directory, fingerprint_files, write_json
from longgen.hybrid import Hybrid
from longgen.modeling.convert import companions
from longgen.names import FILE_BYTES
from longgen.planner import experiment_shape
from longgen.provenance import fingerprint, provenance
from longgen.results import Result, save_result
from longgen.shapes import ModelShape
from longgen.strict import require
from longgen.training.adapters import add_adapters, base_name, merged_weight, reset_adapters
from longgen.training.base import base_model
from longgen.training.loading import empty_model, load_weights
from longgen.training.loop import TrainingRun, train
from longgen.training.parallel.processes import Processes, join_processes
from longgen.training.parallel.training_module import TrainingModule
from longgen.training.preflight import check_memory, utilization
from longgen.training.rows import load_rows

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class StageFiles:
    """Files and folders that a stage reads and writes, and its deadline.

    Attributes:
        rows: folder made by `longgen prepare`, or by `longgen pack` where the stage reads packed rows.
        source: folder of the converted model (``extension``), or of the tokenizer to save with the model (``base``).
        output: folder for the model, in Hugging Face format.
        result: results file (kind ``training``) to write.
        checkpoint: folder for the checkpoints of an interrupted run; gone when the stage is done.
        metrics: folder for the numbers of every step, or None.
        report_to: writers of them besides JSON lines (`longgen.training.metrics`).
        deadline: on the clock of `time.monotonic`: training that is not done then stops, with a checkpoint.
    """

    rows: Path
    source: Path
    output: Path
    result: Path
    checkpoint: Path
    metrics: Path | None = None
    report_to: tuple[str, ...] = ()
    deadline: float = math.inf


def join(training: TrainingSettings, setup: SetupSettings) -> Processes:
    """The processes that a stage needs; see `join_processes`."""
    return join_processes(setup, sharded=training.dtype != "float32" or setup.offload_parameters)


def train_base(experiment: Experiment, files: StageFiles, setup: SetupSettings | None = None) -> None:
    """Pretrain the experiment's base model from random weights.

    Args:
        experiment: shape of the model, phases and optimizer (``base``), seed.
        files: what is read and written.
        setup: how it is computed; None for the default one.

    Raises:
        ArtifactError, ConfigError, TrainingError: as `longgen.training.loop.train`.
    """
    # its rows are short, and it is no hybrid: nobody shares them
    setup, training = replace(setup or SetupSettings(), sequence_parallel=1), require_part(experiment.base, "base")
    stage = _StageTraining(experiment, training, setup, files, "base", join(training, setup))
    stage.check()
    torch.manual_seed(experiment.seed)
    model = base_model(experiment.model, training.max_length).to(stage.processes.device)
    module = TrainingModule(model, stage.processes, training, setup)
    stage.run(module, experiment.section("model", "base"), {})


def train_extension(
    experiment: Experiment, variant: str, files: StageFiles, setup: SetupSettings | None = None
) -> None:
    """Extend the context of a converted model by fine-tuning it with its hybrid attention in place.

    Args:
        experiment: phases and optimizer (``extension``), seed.
        variant: its name.
        files: what is read and written; the source is a converted model (`longgen.modeling.convert_checkpoint`).
        setup: how it is computed; None for the default one.

    Raises:
        ArtifactError, ConfigError, TrainingError: as `longgen.training.loop.train`; or the set-up does not fit in
            memory, or the source is no model folder.
    """
    setup, training = setup or SetupSettings(), experiment.extension
    stage = _StageTraining(experiment, training, setup, files, "extension", join(training, setup), variant)
    (model, dtype), processes = empty_model(files.source), stage.processes
    stage.check()
    shape = ModelShape.from_hf_config(files.source)
    shape = replace(shape, tie_word_embeddings=model.config.tie_word_embeddings)
    for name, value in asdict(shape).items():
        expected = getattr(stage.shape, name)
        require(name == "name" or value == expected, f"{name} of {files.source}", value, f"{expected}, as configured")
    if training.lora is not None:
        add_adapters(model, training.lora)
    if stage.shifted:
        model.use_shifted_groups()
    module = TrainingModule(model, processes, training, setup)
    load_weights(model, files.source, torch.device("cpu") if setup.offload_parameters else processes.device)
    if training.lora is not None:
        reset_adapters(model, experiment.seed)
    settings = experiment.section("extension") | {"variant": variant, "longgen": model.config.longgen}
    if stage.shifted:
        settings["training_attention"] = "shifted"
    # reading a large model takes minutes: one process does
    weights = fingerprint_files(sorted(files.source.glob("*.safetensors"))) if processes.rank == 0 else ""
    stage.run(module, settings, {"model": processes.broadcast(weights)}, dtype)


@dataclass(frozen=True)
class _StageTraining:
    """The training of one stage, with its processes."""

    experiment: Experiment
    training: TrainingSettings
    setup: SetupSettings
    files: StageFiles
    name: str
    processes: Processes
    variant: str | None = None

    @property
    def shape(self) -> ModelShape:
        """Of the model."""
        return experiment_shape(self.experiment)

    @property
    def hybrid(self) -> Hybrid:
        """Who sees whom; the base model is all full."""
        variant = self.experiment.variant(self.variant or "full")
        return Hybrid(variant.layout, variant.pattern)

    @property
    def shifted(self) -> bool:
        """Whether full layers are trained with shifted groups of tokens."""
        return self.variant is not None and self.experiment.variant(self.variant).training_attention == "shifted"

    def check(self) -> None:
        """Refuse what cannot work, before anything is loaded."""
        training = self.training
        if self.shifted and training.packed is not None and training.separate_documents:
            # rows of separate documents stand end to end in a pass: their groups would be those of all of them
            for phase in training.phases:
                rows = self.setup.micro_batch_size or len(self.processes.rows(phase.batch_size))
                require(rows == 1, "micro_batch_size", rows, "1 with shifted groups and separate documents")
        check_memory(self.shape, self.hybrid, training, self.setup, self.processes)

    def run(
        self,
        module: TrainingModule,
        settings: dict[str, Any],
        inputs: dict[str, str],
        dtype: torch.dtype | None = None,
    ) -> None:
        """Train, save the model in ``dtype``, write the result; ``settings`` and ``inputs`` determine them."""
        files, processes, model, seed = self.files, self.processes, module.model, self.experiment.seed
        phases, rows = load_rows(files.rows, self.training, model.config.vocab_size)
        inputs = inputs | {"rows": rows}
        # Threads and version too: they change the last bits, and a resumed run must end with the same ones. Not the
        # processes: with another number of them a run goes on with what it has.
        identity = fingerprint([settings, inputs, seed, torch.__version__, torch.get_num_threads()])
        label = f"train {self.variant or self.name}"
        mfu = utilization(self.shape, self.hybrid, self.training, processes, self.shifted)
        run = TrainingRun(
            self.name, identity, files.checkpoint, label, files.metrics, files.report_to, mfu, files.deadline
        )
        progress = train(module, phases, self.training, self.setup, run)
        with atomic_directory(files.output) if processes.rank == 0 else nullcontext(files.output) as folder:
            export_model(model, folder, dtype or torch.float32, processes)
            if processes.rank == 0:
                for file in companions(files.source):
                    shutil.copyfile(file, folder / file.name)
        if processes.rank > 0:
            return
        attention = {} if self.variant is None else model.attention_kernels(DTYPES[self.training.dtype])
        origin = provenance(settings, seed, str(processes.device), inputs, attention)
        all_settings = settings | {"setup": asdict(self.setup) | {"processes": processes.world}}
        experiment = self.experiment.name
        save_result(files.result, Result("training", experiment, progress.records, origin, self.variant, all_settings))
        shutil.rmtree(files.checkpoint, ignore_errors=True)


def export_model(model: Any, folder: Path, dtype: torch.dtype, processes: Processes) -> None:
    """Write config.json and safetensors of ``model``; called by all processes, written by the first.

    Args:
        model: sharded or not; adapters are merged into the weights.
        folder: that exists and is empty.
        dtype: of the weights written.
        processes: who holds the model.
    """
    names = [name for parameter, _ in model.named_parameters() if (name := base_name(parameter)) is not None]
    shapes = {base_name(name): parameter.shape for name, parameter in model.named_parameters()}
    tensors_to_write = {name: torch.empty(shapes[name], dtype=dtype, device="meta") for name in names}
    split = split_torch_state_dict_into_shards(tensors_to_write, max_shard_size=FILE_BYTES)
    for file, names_in_file in split.filename_to_tensors.items():
        tensors = {}
        for name in names_in_file:
            weight = merged_weight(model, name)  # collective
            if processes.rank == 0:
                tensors[name] = weight.detach().to("cpu", dtype).contiguous()
        if processes.rank == 0:
            save_file(tensors, folder / file, metadata={"format": "pt"})
    if processes.rank > 0:
        return
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": dict(sorted(split.tensor_to_filename.items()))}
        write_json(folder / "model.safetensors.index.json", index)
    model.config.dtype = dtype
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
