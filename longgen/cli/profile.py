"""`longgen profile`: speed and memory of variants side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, use_threads
from longgen.errors import ConfigError


def profile(
    config: Config,
    output: Annotated[Path, typer.Option(help="Folder for speed.json and memory.json.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Repeat for several.", show_default="the default variants")
    ] = None,
) -> None:
    """Time prefill, decode and a training step by length against full attention, and weigh the KV cache.

    Uses models of the configured shape with random weights. For honest times, run nothing else beside it.
    """
    from longgen.config import load_experiment, needed

    experiment = load_experiment(config)
    variants = variant or experiment.default_variants
    for name in variants:
        experiment.variant(name)
    if "full" not in variants:
        raise ConfigError(f"--variant is {', '.join(variants)}: 'full' must be one, speed-ups are relative to it")

    from longgen.profiling.profile import profile_experiment
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    use_threads(needed(experiment.profiling, "profiling").threads)
    speed, memory, attention = profile_experiment(experiment, variants)
    settings = experiment.section("profiling", "model") | {"variants": variants}
    origin = provenance(settings, experiment.seed, attention=attention)
    for kind, records in (("speed", speed), ("memory", memory)):
        save_result(output / f"{kind}.json", Result(kind, experiment.name, records, origin, settings=settings))
