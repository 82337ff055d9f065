"""`longgen plan --kv-budget`: which layouts keep the KV cache within a share of full attention's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from longgen.cli.options.parameters import option_names
from longgen.cli.options.patterns import PATTERNS
from longgen.cli.options.planning import PlanOptions
from longgen.cli.plan_tables import IDEAL, speedups
from longgen.errors import ConfigError
from longgen.planner.budget import layouts_for_budget
from longgen.tables import Table
from longgen.units import binary_size

# Options that --kv-budget excludes: what the budget decides, and what is about a single layout.
_EXCLUDED_OPTIONS = ("full_layers", "gpu", "ceilings", "prefill_chunk", "dense_prefill", "dense_decode")


def budget_rows(options: PlanOptions, kv_budget: float) -> list[dict[str, Any]]:
    """A row per layout, in the order of `layouts_for_budget`; without a pattern, sink and stride compete.

    Raises:
        ConfigError: an option that has no place here, several lengths or batches, or no layout meets the budget.
    """
    if names := option_names(name for name in options.explicit if name in _EXCLUDED_OPTIONS):
        raise ConfigError(f"{names} given with --kv-budget: allowed is one or the other")
    shape = options.shape()
    for name, numbers in (("length", options.lengths()), ("batch", options.batches())):
        if len(numbers) > 1:
            raise ConfigError(f"--{name} is {numbers}: allowed with --kv-budget is one")
    (length,), (batch,) = options.lengths(), options.batches()
    choices = layouts_for_budget(
        shape,
        [options.sparse_pattern(name) for name in ([options.pattern] if "pattern" in options.explicit else PATTERNS)],
        length,
        kv_budget,
        options.placement,
        batch,
        options.bytes_per_value,
        other_strides="stride" not in options.explicit,
    )
    return [
        {
            "model": shape.name,
            "kv_budget": kv_budget,
            "within_budget": choice.within_budget,
            "placement": options.placement,
            "full_layers": choice.hybrid.layout.num_full,
            "num_layers": choice.hybrid.layout.num_layers,
            "layout": choice.hybrid.layout.kinds(),
            "pattern": choice.hybrid.pattern.to_dict(),
            "batch": batch,
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
