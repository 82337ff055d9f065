"""`longgen probe`: which layers, or heads, of a checkpoint need full attention."""

from __future__ import annotations

import math
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longgen.cli.options import (
    BlockSize,
    LocalBlocks,
    PatternName,
    SinkBlocks,
    Staggered,
    Stride,
    Threads,
    given,
    refuse_beside_config,
    sparse_pattern,
    torch_dtype,
    use_threads,
)
from longgen.errors import ConfigError
from longgen.layout import HEADS, PLACEMENTS, PROBED, PROBED_HEADS
from longgen.units import seconds_of_minutes

if TYPE_CHECKING:
    from longgen.probing.session import Findings, Request

_PROMPTS, _SEARCH = "Prompts", "Search"
_BESIDE_CONFIG = ("model", "config", "output", "layouts", "by", "threads", "minutes")


class By(StrEnum):
    """What is made sparse as a whole."""

    layers = "layers"
    heads = "heads"


def probe(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of a checkpoint, converted or not.", show_default=False),
    ],
    name: Annotated[
        str, typer.Option(help="Of the run: the record is OUTPUT/NAME/probe.json, by heads probe-heads.json.")
    ] = "probe",
    output: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("results"),
    config: Annotated[
        Path | None,
        typer.Option(help="Take name, prompts, pattern and the rest from this configuration's `probe`."),
    ] = None,
    layouts: Annotated[
        Path | None, typer.Option(help="Folder for layout files.", show_default="artifacts/NAME/layouts")
    ] = None,
    by: Annotated[By, typer.Option(help="What is made sparse: layers, or KV heads.")] = By.layers,
    pattern: PatternName = None,
    block_size: BlockSize = None,
    sink_blocks: SinkBlocks = None,
    local_blocks: LocalBlocks = None,
    stride: Stride = None,
    staggered: Staggered = False,
    text: Annotated[
        str | None,
        typer.Option(
            help="A .txt file, or a folder of them (or .jsonl).",
            show_default="Python's standard library and manual",
            rich_help_panel=_PROMPTS,
        ),
    ] = None,
    length: Annotated[int, typer.Option(help="Tokens of a prompt.", min=1, rich_help_panel=_PROMPTS)] = 2048,
    prompts: Annotated[int, typer.Option(help="How many.", min=2, rich_help_panel=_PROMPTS)] = 8,
    facts: Annotated[int, typer.Option(help="In each prompt.", min=1, rich_help_panel=_PROMPTS)] = 8,
    seed: Annotated[int, typer.Option(help="Of the prompts.", min=0, rich_help_panel=_PROMPTS)] = 0,
    full_layers: Annotated[
        str, typer.Option(help="Full layers that are chosen greedily: 10, 1/3 ...", rich_help_panel=_SEARCH)
    ] = "1/3",
    candidates: Annotated[
        int,
        typer.Option(
            help="Layers (or layers' worth of heads) among which they are chosen, the highest ranked; 0: all.",
            min=0,
            rich_help_panel=_SEARCH,
        ),
    ] = 12,
    placement: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare with it; repeat for several.",
            show_default="middle, interleaved; by heads also heads",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    threads: Threads = 0,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command goes on.", show_default="no limit")
    ] = None,
) -> None:
    """Measure what making each layer sparse costs, without training, and choose the layers that stay full.

    The cost is the loss on the answers to questions about facts that stand farther back than any sparse layer sees.
    An interrupted probe goes on where it was; after --minutes it ends with exit code 75.

    Example: longgen probe path/to/model --name my-model --local-blocks 4 && longgen convert path/to/model hybrid
    --local-blocks 4 --layout probed:1/6 --probe results/my-model/probe.json
    """
    deadline = math.inf if minutes is None else time.monotonic() + seconds_of_minutes(minutes)
    asked = given(
        {
            "pattern": pattern,
            "block_size": block_size,
            "sink_blocks": sink_blocks,
            "local_blocks": local_blocks,
            "stride": stride,
            "staggered": staggered,
        }
    )
    by_heads = by is By.heads
    for each in placement or ():
        if each not in PLACEMENTS and each != HEADS:
            raise ConfigError(f"--placement is {each!r}: allowed are {', '.join((*PLACEMENTS, HEADS))}")
    use_threads(threads)

    from longgen.hardware import require_gpu
    from longgen.probing.layouts import record_name
    from longgen.probing.records import probe_result, write_layouts
    from longgen.probing.search import default_placements
    from longgen.probing.session import Request, probe_model
    from longgen.results import check_run_name, save_result

    if config is not None:
        sources = {key: context.get_parameter_source(key) for key in context.params if key not in _BESIDE_CONFIG}
        refuse_beside_config({key: True for key, source in sources.items() if source and source.name == "COMMANDLINE"})
        name, request = _experiment_request(config, model, by_heads)
    else:
        request = Request(
            model=model,
            pattern=sparse_pattern(asked) if asked else None,
            text=text,
            length=length,
            prompts=prompts,
            facts=facts,
            full_layers=full_layers,
            candidates=candidates or None,
            by_heads=by_heads,
            placements=tuple(placement or default_placements(by_heads)),
            dtype=_dtype_name(dtype, device),
            device=device,
            seed=seed,
        )
    require_gpu("--device", request.device)
    path = output / check_run_name(name) / record_name(PROBED_HEADS if by_heads else PROBED)
    found = probe_model(request, path.with_suffix(".measurements.jsonl"), deadline)
    save_result(path, probe_result(name, request, found))
    written = write_layouts(layouts or Path("artifacts") / name / "layouts", found)
    _print_summary(path, written, found)


def _dtype_name(dtype: str, device: str) -> str:
    return str(torch_dtype(dtype, device)).removeprefix("torch.")


def _experiment_request(config: Path, model: Path, by_heads: bool) -> tuple[str, Request]:
    """Name of the run, and what its configuration asks of the base model in ``model``."""
    from longgen.config import load_experiment, needed
    from longgen.probing.search import default_placements
    from longgen.probing.session import Request

    experiment = load_experiment(config)
    settings = needed(experiment.probe, "probe")
    return experiment.name, Request(
        model=model,
        pattern=experiment.probe_pattern,
        text=settings.text,
        length=settings.length,
        prompts=settings.prompts,
        facts=settings.facts,
        full_layers=str(settings.full_layers),
        candidates=settings.candidates,
        by_heads=by_heads,
        placements=default_placements(by_heads),
        dtype=_dtype_name(settings.dtype, settings.device),
        device=settings.device,
        seed=experiment.seed,
    )


def _print_summary(path: Path, written: list[Path], found: Findings) -> None:
    from longgen.probing.search import all_full, all_sparse

    print(f"{path}: loss on the answers, in nats per token")
    for each in (all_full(found.units), all_sparse(found.units)):
        print(f"  all {each.name}: {found.store.answers(each.layout).mean():.3f}")
    for name in ("ranked", "greedy"):
        sets = [each for each in found.sets if each.name == name and each.layout.num_full <= found.full_layers]
        for each in sets[-1:]:
            print(f"  {each.layout.num_full:g} full, {name}: {found.store.answers(each.layout).mean():.3f}")
    print(f"  order: {' '.join(map(str, found.order[: found.full_layers * found.units.per_layer]))}")
    print("  layouts: " + ", ".join(map(str, written)))
