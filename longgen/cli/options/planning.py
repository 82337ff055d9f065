"""Options of `longgen plan`, `longgen plan train` and `longgen plan cluster`, and what is planned by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.parameters import OUTPUT_FILE, ConfigurationFile, FieldsOf, Options, Overrides
from longgen.cli.options.patterns import PatternOptions
from longgen.cli.options.shared import SelectOption, SetupOption, whole_numbers
from longgen.config import OptimizerSettings, PhaseSettings, SetupSettings, TrainingSettings
from longgen.errors import ConfigError, require
from longgen.gpus import GPUS
from longgen.layout import FULL_LAYERS, HEADS, PLACEMENT, PLACEMENTS, Layout, make_layout
from longgen.planner.inference import PREFILL_CHUNK, VALUE_BYTES
from longgen.planner.job import DEFAULT_MACHINE, Machine
from longgen.shapes import MODEL_SHAPES, ModelShape, model_shape

# Our choice where the paper is silent: its length, a step of 32 rows, which are 4.2 million tokens as in Llama 2's
# pretraining (arXiv 2307.09288), on eight GPUs, a row at a time. The 5 billion tokens in all are the paper's. What rows
# are made of does not matter here, nor does the learning rate.
LENGTH, BATCH, TOKENS, PROCESSES = 131072, 32, 5_000_000_000, 8
PHASE = PhaseSettings(LENGTH, BATCH, steps=-(-TOKENS // (LENGTH * BATCH)), learning_rate=1e-5)
TRAINING = TrainingSettings([PHASE], packed="any", dtype="bfloat16")
SETUP = SetupSettings(PROCESSES, micro_batch_size=1, recompute=True, device="cuda")

_GPU, _DENSE = "Inference on a GPU", "Calibration by a measurement of full attention"
_SETUP, _MACHINE = "Set-up", "Machine"
_GPU_NAMES = ", ".join(GPUS)


@dataclass(frozen=True, kw_only=True)
class PlannedModelOptions(PatternOptions):
    """A hybrid: a model, its full layers, and the pattern of the others."""

    model: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(MODEL_SHAPES)}, or path of a config.json or of the folder that has it."),
    ] = None
    full_layers: Annotated[str, typer.Option(help="Layers that stay full: a count, a fraction, all or none.")] = (
        FULL_LAYERS
    )
    placement: Annotated[
        str,
        typer.Option(
            help=f"Where they are: {', '.join(PLACEMENTS)}, or {HEADS} (spread over the heads of all layers)."
        ),
    ] = PLACEMENT

    def shape(self) -> ModelShape:
        """The model. Raises ConfigError if none is given, or it is unknown."""
        if self.model is None:
            raise ConfigError(f"--model is missing: allowed are {', '.join(MODEL_SHAPES)}, or a path; or give --config")
        return model_shape(self.model)

    def layout(self, shape: ModelShape) -> Layout:
        """Its full layers. Raises ConfigError if they are impossible."""
        return make_layout(shape.num_layers, self.full_layers, self.placement, shape.num_kv_heads)


@dataclass(frozen=True, kw_only=True)
class PlanOptions(PlannedModelOptions):
    """The ideals are by FLOPs for prefill and training, by bytes read for decoding: predictions, not measurements. What
    is counted and assumed: docs/planning.md.
    """

    length: Annotated[list[str], typer.Option(help="Tokens; repeat it or separate by commas for several.")] = field(
        default_factory=lambda: [str(LENGTH)]
    )
    batch: Annotated[list[str], typer.Option(help="Sequences; several as with --length.")] = field(
        default_factory=lambda: ["1"]
    )
    bytes_per_value: Annotated[int, typer.Option(help="Bytes of a weight and of a cached value.")] = VALUE_BYTES
    kv_budget: Annotated[
        float | None,
        typer.Option(help="List the layouts that keep at most this share of full attention's KV cache, such as 0.38."),
    ] = None
    gpu: Annotated[
        str | None,
        typer.Option(help=f"Memory and least time of inference on one: {_GPU_NAMES}.", rich_help_panel=_GPU),
    ] = None
    ceilings: Annotated[
        Path | None,
        typer.Option(
            help="device-limits.json that `python -m longgen.profiling.gpu` measured: wins over the datasheet.",
            rich_help_panel=_GPU,
        ),
    ] = None
    prefill_chunk: Annotated[
        int, typer.Option(help="Tokens per forward pass over the prompt.", rich_help_panel=_GPU)
    ] = PREFILL_CHUNK
    dense_prefill: Annotated[
        float | None,
        typer.Option(
            help="Seconds that full attention took for this prompt: scaled to the hybrid.", rich_help_panel=_DENSE
        ),
    ] = None
    dense_decode: Annotated[
        float | None,
        typer.Option(help="Seconds of one of its decode steps after it: likewise.", rich_help_panel=_DENSE),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(help="Plan all variants of this experiment instead, in its own dtype."),
        ConfigurationFile(),
    ] = None
    output: Annotated[Path | None, typer.Option(help="With --config: the results file to write."), OUTPUT_FILE] = None
    probe: Annotated[
        list[Path] | None,
        typer.Option(help="With --output: record of `longgen probe`, for variants that it places; repeat for several."),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line instead of a table.")] = False

    def __post_init__(self) -> None:
        if self.probe and not self.output:
            paths = ", ".join(map(str, self.probe))
            raise ConfigError(f"--probe is {paths}: allowed is one with --output, which has layouts")
        if self.output and not self.config:
            raise ConfigError(f"--output is '{self.output}': allowed is a path with --config only")
        if self.config:
            self.refuse_beside_config("config", "output", "probe", "as_json")

    def lengths(self) -> list[int]:
        """Tokens. Raises ConfigError unless all are whole numbers >= 1."""
        return whole_numbers("length", self.length)

    def batches(self) -> list[int]:
        """Sequences. Raises ConfigError unless all are whole numbers >= 1."""
        return whole_numbers("batch", self.batch)


@dataclass(frozen=True, kw_only=True)
class PlanTrainOptions(PlannedModelOptions):
    """All of it is predicted, and nothing measured. What is counted and assumed: docs/planning-a-training-run.md."""

    phase: Annotated[
        Overrides[PhaseSettings],
        FieldsOf(
            PHASE,
            "length",
            batch="batch_size",
            steps="steps",
            default_texts={"steps": f"{TOKENS // 10**9} billion tokens' worth, as in the paper"},
        ),
    ] = field(default_factory=Overrides)
    training: Annotated[Overrides[TrainingSettings], FieldsOf(TRAINING, "dtype")] = field(default_factory=Overrides)
    optimizer: Annotated[Overrides[OptimizerSettings], FieldsOf(OptimizerSettings(), optimizer="name")] = field(
        default_factory=Overrides
    )
    processes: Annotated[
        Overrides[SetupSettings],
        FieldsOf(
            SETUP,
            "sequence_parallel",
            panel=_SETUP,
            micro_batch="micro_batch_size",
            recompute="recompute",
            offload_activations="offload_activations",
            offload_parameters="offload_parameters",
        ),
    ] = field(default_factory=Overrides)
    gpus: Annotated[
        int,
        typer.Option(help="In all; with --config, for set-ups that leave it open.", min=1, rich_help_panel=_MACHINE),
    ] = PROCESSES
    gpu: Annotated[str, typer.Option(help=f"{_GPU_NAMES}.", rich_help_panel=_MACHINE)] = DEFAULT_MACHINE.gpu.name
    network_gb: Annotated[
        float, typer.Option(help="GB/s and direction between nodes, per GPU.", rich_help_panel=_MACHINE)
    ] = DEFAULT_MACHINE.network / 1e9
    machine: Annotated[Overrides[Machine], FieldsOf(DEFAULT_MACHINE, "gpus_per_node", "efficiency", panel=_MACHINE)] = (
        field(default_factory=Overrides)
    )
    config: Annotated[
        Path | None,
        typer.Option(help="Plan the extension of this experiment instead, with its set-ups."),
        ConfigurationFile(),
    ] = None
    setup: Annotated[
        str | None, typer.Option(help="With --config: one of its set-ups.", show_default="all for GPUs")
    ] = None
    check: Annotated[bool, typer.Option("--check", help="Exit with code 2 if something does not fit.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line instead of tables.")] = False

    def __post_init__(self) -> None:
        if self.setup is not None and self.config is None:
            raise ConfigError(f"--setup is {self.setup!r}: allowed is a name with --config only")
        for name, value in self.phase.values.items():
            require(value >= 1, f"--{name.removesuffix('_size')}", value, "a whole number >= 1")
        if self.config:
            machine = ("gpus", "gpu", "gpus_per_node", "network_gb", "efficiency")
            self.refuse_beside_config("config", "setup", *machine, "check", "as_json")


@dataclass(frozen=True, kw_only=True)
class PlanClusterOptions(Options):
    """Which jobs there are, Snakemake says, in a clone of the project.

    All of it is predicted, and nothing measured: longgen/cluster/assumptions.py says from what.
    With --this-machine the processors' rates are: a third of what a matrix product reaches, in the dtype that computes
    here. A rough guide.
    """

    config: Annotated[
        Path,
        typer.Option(help="The experiment, such as config/llama2-7b.yaml.", show_default=False),
        ConfigurationFile(),
    ]
    setup: SetupOption = None
    select: SelectOption = "default"
    this_machine: Annotated[
        bool,
        typer.Option(
            "--this-machine", help="For the processors of this machine, whose rates are measured first: seconds."
        ),
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False
