"""`longgen convert`: make a hybrid of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longgen.cli.options.models import ConvertOptions
from longgen.config import load_experiment
from longgen.modeling import convert_checkpoint
from longgen.modeling.convert import Conversion
from longgen.units import binary_size


def convert(options: ConvertOptions) -> None:
    """Convert the checkpoint, and print what the hybrid keeps."""
    if options.config is not None and options.variant is not None:
        request = _experiment_request(options.config, options.variant)
    else:
        request = {
            "layout": options.layout,
            "pattern": options.sparse_pattern(),
            "rope": options.rope,
            "rope_theta": options.rope_theta,
            "max_length": options.max_length,
        }
    conversion = convert_checkpoint(
        options.source,
        options.destination,
        **request,
        probe=options.probe,
        overwrite=options.overwrite,
        revision=options.revision,
        dtype=options.dtype,
        drop_sliding_window=options.drop_sliding_window,
        check_finite=not options.skip_finite_check,
    )
    _print_summary(conversion)


def _experiment_request(config: Path, name: str) -> dict[str, Any]:
    experiment = load_experiment(config)
    variant, extension = experiment.variant(name), experiment.extension
    request = {"layout": variant.probed or variant.layout, "pattern": variant.pattern}
    if not variant.trained:
        return request
    return request | {
        "rope": extension.rope,
        "rope_theta": extension.rope_theta if extension.rope == "abf" else None,
        "max_length": extension.max_length,
    }


def _print_summary(conversion: Conversion) -> None:
    card = conversion.card
    layout, plan = card.hybrid.layout, card.plan(card.max_length)
    if conversion.written:
        print(f"{conversion.destination}: hybrid of {card.base}")
    else:
        print(f"{conversion.destination}: nothing to do, it is the result of the same conversion of {card.base}")
    print(f"  full attention in {layout.num_full:g} of {layout.num_layers} layers")
    cache = f"  KV cache at {plan.length:,} tokens: {binary_size(plan.kv_bytes)}"
    if plan.kv_bytes == plan.kv_bytes_full:
        why = "the pattern leaves out no token of so few" if layout.num_sparse else "all layers are full"
        print(f"{cache}, as with full attention: {why}")
    else:
        print(f"{cache} instead of {binary_size(plan.kv_bytes_full)} (-{100 * plan.kv_reduction:.1f} %)")
    if card.lost_dropout:
        print(f"  {card.lost_dropout}")
    if conversion.written:
        print("  fine-tune it before use; what it is: README.md in it")
