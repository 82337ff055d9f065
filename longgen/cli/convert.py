"""`longgen convert`: make a hybrid of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longgen.cli.options import (
    BlockSize,
    LocalBlocks,
    PatternName,
    SinkBlocks,
    Staggered,
    Stride,
    given,
    refuse_beside_config,
    sparse_pattern,
)
from longgen.errors import ConfigError

if TYPE_CHECKING:
    from longgen.modeling.convert import Conversion

DEFAULT_LAYOUT = "middle:1/3"
_POSITIONS, _WEIGHTS, _EXPERIMENT = "Positions and length", "Source and weights", "From an experiment"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder of a checkpoint (Llama, Mistral, Qwen2, Qwen3, OLMo 2, SmolLM3, Phi-3, GLM-4, Seed-OSS, "
            "Granite), its id on the Hugging Face hub (org/name), or a .gguf file.",
            show_default=False,
        ),
    ],
    destination: Annotated[
        Path,
        typer.Argument(metavar="DST", help="Folder to make: whole or not at all.", show_default=False),
    ],
    layout: Annotated[
        str | None,
        typer.Option(
            help="What stays full: PLACEMENT:SHARE (middle, ends, bottom, top, interleaved, heads for a share of the "
            "KV heads of every layer, or with --probe probed or probed-heads), all, none, or a .json file with an "
            "entry per layer.",
            show_default=DEFAULT_LAYOUT,
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="Record of `longgen probe` on SRC, such as results/NAME/probe.json.", show_default="none"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it exists, whatever it is.")] = False,
    pattern: PatternName = None,
    block_size: BlockSize = None,
    sink_blocks: SinkBlocks = None,
    local_blocks: LocalBlocks = None,
    stride: Stride = None,
    staggered: Staggered = False,
    rope: Annotated[
        str | None,
        typer.Option(
            help="How RoPE is extended: abf (needs --rope-theta), linear, ntk or yarn (need --max-length).",
            show_default="abf with --rope-theta, else unchanged",
            rich_help_panel=_POSITIONS,
        ),
    ] = None,
    rope_theta: Annotated[
        float | None,
        typer.Option(help="New base of RoPE.", show_default="unchanged", rich_help_panel=_POSITIONS),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="New maximum length, in tokens.", show_default="unchanged", rich_help_panel=_POSITIONS),
    ] = None,
    drop_sliding_window: Annotated[
        bool,
        typer.Option(
            "--drop-sliding-window",
            help="Accept a base model with a sliding window; full layers then attend to everything.",
            rich_help_panel=_POSITIONS,
        ),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a hub id.", show_default="main", rich_help_panel=_WEIGHTS),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Cast the weights: bfloat16, float16 or float32.",
            show_default="unchanged; quantised GGUF to float32",
            rich_help_panel=_WEIGHTS,
        ),
    ] = None,
    skip_finite_check: Annotated[
        bool,
        typer.Option(
            "--skip-finite-check",
            help="Take weights that are NaN or infinite as they are; spares reading what is only copied.",
            rich_help_panel=_WEIGHTS,
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Take layout, pattern, RoPE and length from this configuration ...", rich_help_panel=_EXPERIMENT
        ),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="... and this variant of it.", rich_help_panel=_EXPERIMENT)
    ] = None,
) -> None:
    """Convert a Llama-like checkpoint into a hybrid of full and sparse layers.

    The weights stay as they are: fine-tune the result before use.
    SRC is checked before anything is written, and no code in it is run.
    Memory does not grow with the model, but for a GGUF file, which is dequantised in memory.
    A second identical call finds its work done.

    Example: longgen convert meta-llama/Llama-2-7b-hf hybrid --pattern stride --rope-theta 5e6 --max-length 131072
    """
    asked = given(
        {
            "layout": layout,
            "pattern": pattern,
            "block_size": block_size,
            "sink_blocks": sink_blocks,
            "local_blocks": local_blocks,
            "stride": stride,
            "staggered": staggered,
            "rope": rope,
            "rope_theta": rope_theta,
            "max_length": max_length,
        }
    )
    if (config is None) != (variant is None):
        raise ConfigError("--config and --variant belong together: give both or neither")
    if config is not None and variant is not None:
        refuse_beside_config(asked)
        request = _experiment_request(config, variant)
    else:
        request = {
            "layout": layout or DEFAULT_LAYOUT,
            "pattern": sparse_pattern(asked),
            "rope": rope,
            "rope_theta": rope_theta,
            "max_length": max_length,
        }
    from longgen.modeling import convert_checkpoint

    done = convert_checkpoint(
        source,
        destination,
        **request,
        probe=probe,
        overwrite=overwrite,
        revision=revision,
        dtype=dtype,
        drop_sliding_window=drop_sliding_window,
        check_finite=not skip_finite_check,
    )
    _print_summary(done)


def _experiment_request(config: Path, variant: str) -> dict[str, Any]:
    from longgen.config import load_experiment

    experiment = load_experiment(config)
    chosen, extension = experiment.variant(variant), experiment.extension
    if not chosen.trained:
        return {"layout": chosen.probed or chosen.layout, "pattern": chosen.pattern}
    return {
        "layout": chosen.probed or chosen.layout,
        "pattern": chosen.pattern,
        "rope": extension.rope,
        "rope_theta": extension.rope_theta if extension.rope == "abf" else None,
        "max_length": extension.max_length,
    }


def _print_summary(done: Conversion) -> None:
    from longgen.units import binary_size

    card = done.card
    layout, plan = card.hybrid.layout, card.plan(card.max_length)
    if done.written:
        print(f"{done.destination}: hybrid of {card.base}")
    else:
        print(f"{done.destination}: nothing to do, it is the result of the same conversion of {card.base}")
    print(f"  full attention in {layout.num_full:g} of {layout.num_layers} layers")
    cache = f"  KV cache at {plan.length:,} tokens: {binary_size(plan.kv_bytes)}"
    if plan.kv_bytes == plan.kv_bytes_full:
        why = "the pattern leaves out no token of so few" if layout.num_sparse else "all layers are full"
        print(f"{cache}, as with full attention: {why}")
    else:
        print(f"{cache} instead of {binary_size(plan.kv_bytes_full)} (-{100 * plan.kv_reduction:.1f} %)")
    if done.written:
        print("  fine-tune it before use; what it is: README.md in it")
