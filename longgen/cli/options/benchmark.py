"""Options of `longgen benchmark`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.compute import DeviceOption, DtypeOption, ThreadsOption
from longgen.cli.options.parameters import OUTPUT_FILE, OUTPUT_FOLDER, FieldsOf, OneOf, Options, Overrides
from longgen.cli.options.shared import ModelArgument, VariantOption
from longgen.config import SuiteSettings
from longgen.errors import require
from longgen.evaluation.benchmarks import BENCHMARKS
from longgen.names import DUO_ATTENTION, ENGINES, KV_REDUCTIONS, NEEDLE_DEPTHS, TRANSFORMERS

SUITE = SuiteSettings(samples=100)

TaskOption = Annotated[
    list[str], typer.Option(help="Only prompts of this task; repeat for several.", show_default="all")
]
LengthOption = Annotated[
    list[int], typer.Option(help="Only prompts of this length; repeat for several.", show_default="all")
]
PromptsOption = Annotated[
    list[Path], typer.Option(help="Folder of `longgen benchmark prepare`, or its index; repeat for several.")
]


@dataclass(frozen=True, kw_only=True)
class BenchmarkPrepareOptions(Options):
    """Without --data-root prompts are made of stand-in data, and every result says so: it is no score of the benchmark.

    Example: longgen benchmark prepare ruler --tokenizer path/to/model --length 4096 --length 131072 --output prompts
    """

    name: Annotated[str, typer.Argument(metavar="BENCHMARK", help=f"{', '.join(BENCHMARKS)}.")]
    tokenizer: Annotated[str, typer.Option(help="Folder or hub id of the model's tokenizer: it counts the lengths.")]
    output: Annotated[Path, typer.Option(help="Folder of all prompts."), OUTPUT_FOLDER]
    suite: Annotated[
        Overrides[SuiteSettings],
        FieldsOf(
            SUITE,
            *("samples", "data_root"),
            default_texts={
                "lengths": "natural length",
                "tasks": "all",
                "depths": ", ".join(f"{depth:g}" for depth in NEEDLE_DEPTHS),
                "data_root": "stand-in data",
            },
            length="lengths",
            task="tasks",
            depth="depths",
        ),
    ] = field(default_factory=Overrides)
    task_samples: Annotated[
        list[str],
        typer.Option(metavar="TASK=SAMPLES", help="Another number of samples of a task; repeat for several."),
    ] = field(default_factory=list)
    index: Annotated[
        Path | None, typer.Option(help="Write here which files were asked for.", show_default="none"), OUTPUT_FILE
    ] = None
    seed: Annotated[int, typer.Option(help="Of all random choices.", min=0)] = 0

    def settings(self) -> SuiteSettings:
        """What is asked. Raises ConfigError if it is impossible."""
        counts = {}
        for words in self.task_samples:
            task, _, count = words.partition("=")
            require(count.isdecimal(), "--task-samples", words, "TASK=SAMPLES, such as needle=20")
            counts[task] = int(count)
        return replace(self.suite.applied_to(SUITE), task_samples=counts)


@dataclass(frozen=True, kw_only=True)
class BenchmarkPredictOptions(Options):
    """Several processes take a shard each. Answers to prompts that changed, and of another model, are given anew."""

    model: ModelArgument
    prompts: PromptsOption
    output: Annotated[Path, typer.Option(help="Folder of a model's answers."), OUTPUT_FOLDER]
    shard: Annotated[int, typer.Option(help="Which part of the prompts, from 0.", min=0)] = 0
    shards: Annotated[int, typer.Option(help="How many parts there are.", min=1)] = 1
    batch_tokens: Annotated[
        int, typer.Option(help="Prompts answered together, in tokens with padding; 0: one at a time.", min=0)
    ] = 0
    kv_method: Annotated[
        list[str],
        typer.Option(
            help="Reduce the KV cache of a full model; repeat for several. Answers are in a folder below --output for "
            "each, METHOD-as-BUDGET",
            show_default="none",
        ),
        OneOf(KV_REDUCTIONS),
    ] = field(default_factory=list)
    kv_budget: Annotated[
        str, typer.Option(help="With --kv-method: to this share of its bytes, or to those of the hybrid in a folder.")
    ] = "0.38"
    kv_gates: Annotated[
        Path | None,
        typer.Option(help=f"With --kv-method {DUO_ATTENTION}: file of `longgen gates`.", show_default="none"),
    ] = None
    task: TaskOption = field(default_factory=list)
    length: LengthOption = field(default_factory=list)
    dtype: DtypeOption = "float32"
    device: DeviceOption = "cpu"
    threads: ThreadsOption = 0
    engine: Annotated[
        str, typer.Option(help="That computes; vLLM chooses its device itself (docs/serving.md)."), OneOf(ENGINES)
    ] = TRANSFORMERS

    def __post_init__(self) -> None:
        require(
            self.engine == TRANSFORMERS or not self.kv_method,
            "--engine",
            self.engine,
            f"{TRANSFORMERS} with --kv-method: an engine keeps what the model's layers keep",
        )
        require(
            (self.kv_gates is not None) == (DUO_ATTENTION in self.kv_method),
            "--kv-gates",
            None if self.kv_gates is None else str(self.kv_gates),
            f"a file of `longgen gates` with {DUO_ATTENTION}, none without",
        )


@dataclass(frozen=True, kw_only=True)
class BenchmarkScoreOptions(Options):
    """They are written as results files of kinds `benchmark` and `benchmark-summary`."""

    prompts: PromptsOption
    answers: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a model's answers, of `longgen benchmark predict`; repeat for several methods of reduction."
        ),
    ]
    output: Annotated[Path, typer.Option(help="Folder for scores.json and summary.json."), OUTPUT_FOLDER]
    run: Annotated[str, typer.Option(help="Name of the run that the results are part of.")]
    variant: VariantOption
    task: TaskOption = field(default_factory=list)
    length: LengthOption = field(default_factory=list)
