"""Options of the verbs that evaluate a model: gates, evaluate, perplexity, short-context."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.compute import DeviceOption, DtypeOption, ThreadsOption
from longgen.cli.options.parameters import FieldsOf, Options, Overrides
from longgen.cli.options.shared import (
    ConfigArgument,
    CorpusOption,
    ModelArgument,
    ResultOption,
    RunOption,
    VariantNameOption,
    VariantOption,
)
from longgen.config import LongTextSettings, ShortContextSettings
from longgen.errors import require

LONG_TEXT = LongTextSettings(length=131072, documents=50)


@dataclass(frozen=True, kw_only=True)
class GatesOptions(Options):
    """They are learned on pass keys in the model's own tokens, or with --corpus as the byte models' are."""

    config: ConfigArgument
    model: Annotated[Path, typer.Option(help="Folder of the full variant, extended.")]
    output: Annotated[Path, typer.Option(help="File to write, such as gates.json.")]
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="For `evaluation.kv_reduction`: folder of the prepared corpus; its training text is used.",
            show_default="for `benchmarks.kv_reduction`, on pass keys in the model's own tokens",
        ),
    ] = None
    threads: ThreadsOption = 0


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """With --kv-budget-of: of the full variant, whose KV cache is reduced at inference."""

    config: ConfigArgument
    model: Annotated[Path, typer.Option(help="Folder of the model.")]
    variant: VariantNameOption
    corpus: CorpusOption
    output: Annotated[Path, typer.Option(help="Folder for retrieval.json and perplexity.json, or for HYBRID.json.")]
    kv_budget_of: Annotated[
        str | None,
        typer.Option(
            metavar="HYBRID",
            help="Evaluate the full variant with its KV cache reduced at inference to the bytes of this hybrid, by all "
            "methods of `evaluation.kv_reduction`.",
            show_default="no reduction",
        ),
    ] = None
    gates: Annotated[
        Path | None, typer.Option(help="With --kv-budget-of: file of `longgen gates`, for duo-attention.")
    ] = None
    threads: ThreadsOption = 0

    def __post_init__(self) -> None:
        alone = self.gates is None or self.kv_budget_of is not None
        require(alone, "--gates", self.gates, "given with --kv-budget-of alone")


@dataclass(frozen=True, kw_only=True)
class PerplexityOptions(Options):
    """After an interruption the same command goes on with the next document: what is done is beside the result.

    Example: longgen perplexity path/to/model --text hub: --documents 20 --dtype bfloat16 --device cuda
    --run my-run --variant full --result results/my-run/benchmarks/full/long-text.json
    """

    model: ModelArgument
    result: ResultOption
    run: RunOption
    variant: VariantOption
    long_text: Annotated[
        Overrides[LongTextSettings],
        FieldsOf(LONG_TEXT, "text", "documents", "length", "bins", default_texts={"text": "stand-in text"}),
    ] = field(default_factory=Overrides)
    dtype: DtypeOption = "float32"
    device: DeviceOption = "cpu"
    threads: ThreadsOption = 0
    seed: Annotated[int, typer.Option(help="Of the bootstrap, and of the stand-in text.", min=0)] = 0

    def settings(self) -> LongTextSettings:
        """What is measured. Raises ConfigError if it is impossible."""
        settings = self.long_text.applied_to(LONG_TEXT)
        length, bins = settings.length, settings.bins
        require(bins <= length, "--bins", bins, f"1..{length}, which is --length")
        return settings


@dataclass(frozen=True, kw_only=True)
class ShortContextOptions(Options):
    """Without --data-root the questions are stand-in data, and the result says so: it is no score of the benchmarks.

    Example: longgen short-context path/to/model --data-root hub: --run my-run --variant longgen-sink
    --result results/my-run/benchmarks/longgen-sink/short-context.json --batch-size 8 --dtype bfloat16 --device cuda
    """

    model: ModelArgument
    result: ResultOption
    run: RunOption
    variant: VariantOption
    questions: Annotated[
        Overrides[ShortContextSettings],
        FieldsOf(
            ShortContextSettings(),
            *("limit", "data_root", "batch_size"),
            default_texts={
                "tasks": "those of the Open LLM Leaderboard, version 1",
                "limit": "all",
                "data_root": "stand-in data",
            },
            task="tasks",
        ),
    ] = field(default_factory=Overrides)
    num_fewshot: Annotated[
        int | None, typer.Option(help="Examples before each question.", show_default="the task's own", min=0)
    ] = None
    dtype: DtypeOption = "float32"
    device: DeviceOption = "cpu"
    threads: ThreadsOption = 0
