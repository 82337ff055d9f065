"""`longgen plan --kv-budget`: which layouts keep the KV cache within a share of full attention's."""

from __future__ import annotations

from typing import Any

from longgen.cli.options import PATTERNS, option_names, sparse_pattern
from longgen.cli.plan_options import DEFAULT_LENGTH, DEFAULT_PLACEMENT, model_shape_of, whole_numbers
from longgen.cli.plan_tables import IDEAL, speedups
from longgen.tables import Table
from longgen.units import binary_size

# What a budget decides, or what is said about one layout.
_NOT_HERE = ("full_layers", "gpu", "ceilings", "prefill_chunk", "dense_prefill", "dense_decode")


def budget_rows(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per layout found, in the order of `layouts_for_budget`; without a pattern, sink and stride compete.

    Raises:
        ConfigError: an option that has no place here, several lengths or batches, or no layout meets the budget.
    """
    from dataclasses import asdict

    from longgen.errors import ConfigError
    from longgen.planner.budget import layouts_for_budget

    refused = {name: asked[name] for name in _NOT_HERE if name in asked}
    if refused:
        raise ConfigError(f"{option_names(refused)} given with --kv-budget: allowed is one or the other")
    shape = model_shape_of(asked)
    lengths, batches = whole_numbers(asked, "length", DEFAULT_LENGTH), whole_numbers(asked, "batch", "1")
    for name, numbers in (("length", lengths), ("batch", batches)):
        if len(numbers) > 1:
            raise ConfigError(f"--{name} is {numbers}: allowed with --kv-budget is one")
    names = [asked["pattern"]] if "pattern" in asked else PATTERNS
    patterns = [sparse_pattern(asked | {"pattern": name}) for name in names]
    placement = asked.get("placement", DEFAULT_PLACEMENT)
    choices = layouts_for_budget(
        shape,
        patterns,
        lengths[0],
        asked["kv_budget"],
        placement,
        batches[0],
        asked.get("bytes_per_value", 2),
        other_strides="stride" not in asked,
    )
    return [
        {
            "model": shape.name,
            "kv_budget": asked["kv_budget"],
            "within_budget": choice.within_budget,
            "placement": placement,
            "full_layers": choice.hybrid.layout.num_full,
            "num_layers": choice.hybrid.layout.num_layers,
            "layout": choice.hybrid.layout.kinds(),
            "pattern": choice.hybrid.pattern.to_dict(),
            "batch": batches[0],
            **asdict(choice.plan),
        }
        for choice in choices
    ]


def print_budget(rows: list[dict[str, Any]], title: str) -> None:
    """A line per layout; those above the budget last."""
    first = rows[0]
    table = Table(
        ["pattern"],
        ["full layers", "within", "KV cache", "kept", "KV saved", "ideal\nprefill", "ideal\ndecode", "ideal\ntraining"],
        f"{first['model']} at {first['length']:,} tokens: most full layers ({first['placement']}) within "
        f"{first['kv_budget']:g} of the KV cache",
        IDEAL,
    )
    for row in rows:
        table.add(
            _pattern_words(row["pattern"]),
            f"{row['full_layers']:g}/{row['num_layers']}",
            "yes" if row["within_budget"] else "no",
            binary_size(row["kv_bytes"]),
            f"{row['kv_fraction']:.3f}",
            f"{100 * row['kv_reduction']:.1f} %",
            *speedups(row),
        )
    table.print()


def _pattern_words(pattern: dict[str, Any]) -> str:
    """``stride 16: blocks of 64, 1 sink, 16 local``."""
    name = f"stride {pattern['stride']}" if pattern["stride"] else "sink"
    sizes = f"blocks of {pattern['block_size']}, {pattern['sink_blocks']} sink, {pattern['local_blocks']} local"
    return f"{name}: {sizes}{', staggered' if pattern['staggered'] else ''}"
