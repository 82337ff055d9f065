"""Options of `longgen probe` and `longgen convert`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

import typer

from longgen.cli.options.compute import DeviceOption, DtypeOption, ThreadsOption
from longgen.cli.options.parameters import OUTPUT_FOLDER, ConfigurationFile, FieldsOf, OneOf, Overrides
from longgen.cli.options.patterns import PatternOptions
from longgen.cli.options.shared import RESULTS, MinutesOption, deadline_after
from longgen.config import ProbeSettings
from longgen.config.training import Rope
from longgen.errors import ConfigError
from longgen.hardware import ModelDtype
from longgen.layout import FULL_LAYERS, HEADS, PLACEMENT, PLACEMENTS, PROBED, PROBED_HEADS
from longgen.shapes import FAMILIES

_PROMPTS, _SEARCH = "Prompts", "Search"
_POSITIONS, _WEIGHTS, _EXPERIMENT = "Positions and length", "Source and weights", "From an experiment"


class ProbeUnit(StrEnum):
    """What a probe makes sparse as a whole."""

    layers = "layers"
    heads = "heads"


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(PatternOptions):
    """The cost is the loss on the answers to questions about facts that stand farther back than any sparse layer sees.
    An interrupted probe goes on where it was; after --minutes it ends with exit code 75.

    Example: longgen probe path/to/model --name my-model --local-blocks 4 && longgen convert path/to/model hybrid
    --local-blocks 4 --layout probed:1/6 --probe results/my-model/probe.json
    """

    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of a checkpoint, converted or not.", show_default=False),
    ]
    name: Annotated[
        str, typer.Option(help="Of the run: the record is OUTPUT/NAME/probe.json, by heads probe-heads.json.")
    ] = "probe"
    output: Annotated[Path, typer.Option(help="Folder that holds the runs."), OUTPUT_FOLDER] = RESULTS
    config: Annotated[
        Path | None,
        typer.Option(help="Take name, prompts, pattern and the rest from this configuration's `probe`."),
        ConfigurationFile(),
    ] = None
    layouts: Annotated[
        Path | None, typer.Option(help="Folder for layout files.", show_default="artifacts/NAME/layouts"), OUTPUT_FOLDER
    ] = None
    by: Annotated[ProbeUnit, typer.Option(help="What is made sparse: layers, or KV heads.")] = ProbeUnit.layers
    prompts: Annotated[
        Overrides[ProbeSettings],
        FieldsOf(
            ProbeSettings(),
            *("text", "length", "prompts", "facts"),
            panel=_PROMPTS,
            default_texts={"text": "Python's standard library and manual"},
        ),
    ] = field(default_factory=Overrides)
    seed: Annotated[int, typer.Option(help="Of the prompts.", min=0, rich_help_panel=_PROMPTS)] = 0
    search: Annotated[Overrides[ProbeSettings], FieldsOf(ProbeSettings(), "full_layers", panel=_SEARCH)] = field(
        default_factory=Overrides
    )
    candidates: Annotated[
        int,
        typer.Option(
            help="Layers (or layers' worth of heads) among which they are chosen, the highest ranked; 0: all.",
            min=0,
            rich_help_panel=_SEARCH,
        ),
    ] = ProbeSettings.candidates or 0
    placement: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare with it; repeat for several",
            show_default="middle, interleaved; by heads also heads",
            rich_help_panel=_SEARCH,
        ),
        OneOf((*PLACEMENTS, HEADS)),
    ] = None
    dtype: DtypeOption = ProbeSettings.dtype
    device: DeviceOption = ProbeSettings.device
    threads: ThreadsOption = 0
    minutes: MinutesOption = None
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deadline", deadline_after(self.minutes))
        if self.config is not None:
            self.refuse_beside_config("model", "config", "output", "layouts", "by", "threads", "minutes")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(PatternOptions):
    """The weights stay as they are: fine-tune the result before use.
    SRC is checked before anything is written, and no code in it is run.
    Memory does not grow with the model, but for a GGUF file, which is dequantised in memory.
    A second identical call finds its work done.

    Example: longgen convert meta-llama/Llama-2-7b-hf hybrid --pattern stride --rope-theta 5e6 --max-length 131072
    """

    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help=f"Folder of a checkpoint ({', '.join(FAMILIES)}), its id on the Hugging Face hub (org/name), or a "
            ".gguf file.",
            show_default=False,
        ),
    ]
    destination: Annotated[
        Path,
        typer.Argument(metavar="DST", help="Folder to make: whole or not at all.", show_default=False),
    ]
    layout: Annotated[
        str,
        typer.Option(
            help=f"What stays full: PLACEMENT:SHARE ({', '.join(PLACEMENTS)}, {HEADS} for a share of the KV heads of "
            f"every layer, or with --probe {PROBED} or {PROBED_HEADS}), all, none, or a .json file with an entry per "
            "layer."
        ),
    ] = f"{PLACEMENT}:{FULL_LAYERS}"
    probe: Annotated[
        Path | None,
        typer.Option(help="Record of `longgen probe` on SRC, such as results/NAME/probe.json.", show_default="none"),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it exists, whatever it is.")] = False
    rope: Annotated[
        str | None,
        typer.Option(
            help="How RoPE is extended; abf needs --rope-theta, the others --max-length",
            show_default="abf with --rope-theta, else unchanged",
            rich_help_panel=_POSITIONS,
        ),
        OneOf(get_args(Rope)),
    ] = None
    rope_theta: Annotated[
        float | None,
        typer.Option(help="New base of RoPE.", show_default="unchanged", rich_help_panel=_POSITIONS),
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option(help="New maximum length, in tokens.", show_default="unchanged", rich_help_panel=_POSITIONS),
    ] = None
    drop_sliding_window: Annotated[
        bool,
        typer.Option(
            "--drop-sliding-window",
            help="Accept a base model with a sliding window; full layers then attend to everything.",
            rich_help_panel=_POSITIONS,
        ),
    ] = False
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a hub id.", show_default="main", rich_help_panel=_WEIGHTS),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Cast the weights",
            show_default="unchanged; quantised GGUF to float32",
            rich_help_panel=_WEIGHTS,
        ),
        OneOf(get_args(ModelDtype)),
    ] = None
    skip_finite_check: Annotated[
        bool,
        typer.Option(
            "--skip-finite-check",
            help="Take weights that are NaN or infinite as they are; spares reading what is only copied.",
            rich_help_panel=_WEIGHTS,
        ),
    ] = False
    config: Annotated[
        Path | None,
        typer.Option(
            help="Take layout, pattern, RoPE and length from this configuration ...", rich_help_panel=_EXPERIMENT
        ),
        ConfigurationFile(),
    ] = None
    variant: Annotated[str | None, typer.Option(help="... and this variant of it.", rich_help_panel=_EXPERIMENT)] = None

    def __post_init__(self) -> None:
        if (self.config is None) != (self.variant is None):
            raise ConfigError("--config and --variant belong together: give both or neither")
        if self.config is not None:
            self.refuse_beside_config(*_CONVERT_BESIDE_CONFIG)


_CONVERT_BESIDE_CONFIG = (
    *("source", "destination", "probe", "overwrite", "drop_sliding_window", "revision", "dtype"),
    *("skip_finite_check", "config", "variant"),
)
