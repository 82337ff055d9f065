"""`longgen convert`: make a hybrid of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.errors import ConfigError


def convert(
    source: Annotated[Path, typer.Argument(help="Folder of a Hugging Face checkpoint (safetensors).")],
    destination: Annotated[Path, typer.Argument(help="Folder to make.")],
    layout: Annotated[
        str, typer.Option(help="Which layers stay full: PLACEMENT:FULL_LAYERS, `all` or `none`.")
    ] = "middle:1/3",
    block_size: Annotated[int, typer.Option(help="Tokens per block.")] = 64,
    sink_blocks: Annotated[int, typer.Option(help="Leading blocks that every query sees.")] = 1,
    local_blocks: Annotated[int, typer.Option(help="Blocks of the sliding window.")] = 16,
    stride: Annotated[int, typer.Option(help="Every how many blocks all later queries see one; 0: sink only.")] = 0,
    rope_theta: Annotated[float | None, typer.Option(help="New RoPE base.", show_default="unchanged")] = None,
    max_length: Annotated[int | None, typer.Option(help="New maximum length.", show_default="unchanged")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Take layout, pattern, RoPE base and length from this configuration ...")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="... and this variant of it.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace DESTINATION if it exists.")] = False,
) -> None:
    """Convert a Llama-like checkpoint into a hybrid of full and sparse layers; the weights stay as they are."""
    from longgen.config import load_experiment
    from longgen.modeling import convert_checkpoint
    from longgen.pattern import SparsePattern

    if (config is None) != (variant is None):
        raise ConfigError("--config and --variant belong together: give both or neither")
    if config is not None and variant is not None:
        experiment = load_experiment(config)
        chosen = experiment.variant(variant)
        extension = experiment.extension
        convert_checkpoint(
            source,
            destination,
            chosen.layout,
            chosen.pattern,
            extension.rope_theta,
            extension.max_length,
            overwrite,
        )
        return
    pattern = SparsePattern(block_size, sink_blocks, local_blocks, stride)
    convert_checkpoint(source, destination, layout, pattern, rope_theta, max_length, overwrite)
