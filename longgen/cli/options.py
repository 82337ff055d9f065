"""Arguments that several verbs share."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from longgen.config import Experiment
    from longgen.pattern import SparsePattern

Config = Annotated[Path, typer.Argument(help="Configuration file, such as config/smoke.yaml.", show_default=False)]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to PyTorch.", min=0)]
VariantName = Annotated[str, typer.Option("--variant", help="A name under `variants` of the configuration.")]

# Our choice where the paper is silent; sizes of the blocks: see `longgen.pattern.SparsePattern`.
PATTERNS = ("sink", "stride")
DEFAULT_STRIDE = 16

_PATTERN = "Pattern of the sparse layers"
PatternName = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        help="sink (attention sink + sliding window) or stride (strided blocks as well).",
        show_default="sink",
        rich_help_panel=_PATTERN,
    ),
]
BlockSize = Annotated[int | None, typer.Option(help="Tokens per block.", show_default="64", rich_help_panel=_PATTERN)]
SinkBlocks = Annotated[
    int | None, typer.Option(help="Blocks of the attention sink.", show_default="1", rich_help_panel=_PATTERN)
]
LocalBlocks = Annotated[
    int | None, typer.Option(help="Blocks of the window.", show_default="16", rich_help_panel=_PATTERN)
]
Stride = Annotated[
    int | None,
    typer.Option(
        help="Every how many blocks one stays in sight.",
        show_default=f"{DEFAULT_STRIDE}, if stride",
        rich_help_panel=_PATTERN,
    ),
]
Staggered = Annotated[
    bool,
    typer.Option("--staggered", help="With stride: KV heads see different strided blocks.", rich_help_panel=_PATTERN),
]


class Stage(StrEnum):
    """Training stages."""

    base = "base"
    extension = "extension"


def use_threads(threads: int) -> None:
    """Limit PyTorch to ``threads`` CPU threads unless 0."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def torch_dtype(name: str, device: str) -> torch.dtype:
    """What computes on ``device`` with ``--dtype name``. Raises ConfigError if it is none that models compute in."""
    import torch

    from longgen.errors import ConfigError

    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in dtypes:
        raise ConfigError(f"--dtype is {name!r}: allowed are {', '.join(dtypes)}")
    return dtypes[_computed(name, device)]


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that the user gave; the others are None, False or an empty list."""
    return {name: value for name, value in options.items() if value is not None and value is not False and value != []}


def option_names(asked: dict[str, Any]) -> str:
    """``--full-layers, --batch`` for an error message."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in asked)


def refuse_beside_config(asked: dict[str, Any]) -> None:
    """Raise ConfigError if options that the configuration file decides were given."""
    from longgen.errors import ConfigError

    if asked:
        raise ConfigError(
            f"{option_names(asked)} given with --config: allowed is one or the other, since the file says it all"
        )


def sparse_pattern(asked: dict[str, Any]) -> SparsePattern:
    """The pattern that the options above describe.

    Args:
        asked: the ones that were given, by the names of `SparsePattern`'s fields, and ``pattern``; may hold others.

    Raises:
        ConfigError: an unknown pattern, a stride that contradicts it, or an impossible size.
    """
    from longgen.errors import ConfigError
    from longgen.pattern import SparsePattern

    name = asked.get("pattern", "sink")
    if name not in PATTERNS:
        raise ConfigError(f"--pattern is {name!r}: allowed are {', '.join(PATTERNS)}")
    sizes = {key: asked[key] for key in ("block_size", "sink_blocks", "local_blocks", "staggered") if key in asked}
    stride = asked.get("stride", DEFAULT_STRIDE if name == "stride" else 0)
    if (stride == 0) != (name == "sink"):
        raise ConfigError(f"--stride is {stride} with --pattern {name}: allowed is 0 with sink, >= 2 with stride")
    return SparsePattern(**sizes, stride=stride)


def on_this_machine(experiment: Experiment, *parts: str, device: str | None = None) -> Experiment:
    """``experiment`` with the dtype that computes (`longgen.hardware.computed_dtype`) in ``parts`` that it has.

    Args:
        experiment: as configured.
        parts: names of those with a dtype.
        device: that computes; None: each part's own.
    """
    changed = {}
    for name in parts:
        part = getattr(experiment, name)
        if part is not None:
            changed[name] = replace(part, dtype=_computed(part.dtype, device or part.device))
    return replace(experiment, **changed)


def _computed(dtype: str, device: str) -> str:
    from longgen.hardware import computed_dtype

    computed = computed_dtype(dtype, device)
    if computed != dtype:
        print(f"longgen: this processor has no instructions for {dtype}: {computed} computes instead", file=sys.stderr)
    return computed
