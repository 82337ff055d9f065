"""Options of the verbs that evaluate a model: gates, perplexity, short-context."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.compute import DeviceOption, DtypeOption, ThreadsOption
from longgen.cli.options.parameters import OUTPUT_FILE, FieldsOf, Options, Overrides
from longgen.cli.options.shared import ConfigArgument, ModelArgument, ResultOption, RunOption, VariantOption
from longgen.config import PerplexitySettings, ShortContextSettings
from longgen.errors import require

TEXT = PerplexitySettings(length=131072, documents=50)


@dataclass(frozen=True, kw_only=True)
class GatesOptions(Options):
    """They are learned as `benchmarks.kv_reduction` says: on pass keys in text, or on needles in that of a corpus."""

    config: ConfigArgument
    model: Annotated[Path, typer.Option(help="Folder of the full variant, extended.")]
    output: Annotated[Path, typer.Option(help="File to write, such as gates.json."), OUTPUT_FILE]
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="For a model of bytes: folder of its corpus, whose training text is used.",
            show_default="pass keys in the model's own tokens",
        ),
    ] = None
    threads: ThreadsOption = 0


@dataclass(frozen=True, kw_only=True)
class PerplexityOptions(Options):
    """After an interruption the same command goes on with the next document: what is done is beside the result.

    Example: longgen perplexity path/to/model --text hub: --documents 20 --dtype bfloat16 --device cuda
    --run my-run --variant full --result results/my-run/benchmarks/full/perplexity.json
    """

    model: ModelArgument
    result: ResultOption
    run: RunOption
    variant: VariantOption
    positions: Annotated[
        Overrides[PerplexitySettings],
        FieldsOf(TEXT, "text", "documents", "length", "bins", default_texts={"text": "stand-in text"}),
    ] = field(default_factory=Overrides)
    dtype: DtypeOption = "float32"
    device: DeviceOption = "cpu"
    threads: ThreadsOption = 0
    seed: Annotated[int, typer.Option(help="Of the bootstrap, and of excerpts or stand-in text.", min=0)] = 0

    def settings(self) -> PerplexitySettings:
        """What is measured. Raises ConfigError if it is impossible."""
        settings = self.positions.applied_to(TEXT)
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
