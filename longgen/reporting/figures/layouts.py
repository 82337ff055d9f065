"""Figure `layouts`: which layers, or heads of them, keep full attention in each variant."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import PlannedVariant, Run

_CELL = 0.76  # of a row: the height of its cells
# by whether the pattern has a stride, and whether that is staggered or, without one, the sink is missing
_COLORS = {(False, False): "#9CC9E8", (False, True): "#CFE3C1", (True, False): "#F2B07B", (True, True): "#C6A5D8"}


def draw(run: Run) -> Drawing:
    """A row per variant, a cell per layer: layer 0 (next to the embeddings) at the left, heads one below the other."""
    variants = list(run.plan.variants.values())
    depth = max(variant.layout.num_layers for variant in variants)
    figure = style.new_figure(
        "Which layers keep full attention, per variant",
        words.run_note(run),
        height=1.25 + 0.27 * len(variants),
        width=min(style.WIDTH, 3.4 + 0.2 * depth),
    )
    axes = figure.subplots()
    rows, legend = [], {}
    results = _with_results(run)
    for line, variant in enumerate(variants):
        for layer, entry in enumerate(variant.layout.full):
            heads = entry if isinstance(entry, tuple) else (entry,)
            height = _CELL / len(heads)
            for head, full in enumerate(heads):
                label, color = _look(variant, full)
                legend[label] = color
                corner = (layer - 0.5, line - _CELL / 2 + head * height)
                axes.add_patch(Rectangle(corner, 1, height, facecolor=color, edgecolor="white", lw=0.6))
            rows.append(
                {
                    "variant": variant.name,
                    "layer": layer,
                    "attention": _attention(heads),
                    "pattern": "none" if all(heads) else variant.pattern_name,
                }
            )
        count = f"{variant.layout.num_full:.3g} of {variant.layout.num_layers} full"
        missing = "trained" if variant.trained else "evaluated"
        text = count if variant.name in results or not results else f"{count} · planned, not {missing} in this run"
        color = style.MUTED if variant.name not in results and results else style.INK
        at: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (depth - 0.5, line), color=color, fontsize=style.RC["ytick.labelsize"], **at)
    axes.set_xlim(-0.5, depth - 0.5)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_yticks(range(len(variants)), [words.variant_label(variant.name) for variant in variants])
    for name, variant in zip(axes.get_yticklabels(), variants, strict=True):
        if results and variant.name not in results:
            name.set_color(style.MUTED)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlabel("layer (0 is next to the embeddings)")
    style.legend_below(figure, [Patch(facecolor=color, label=label) for label, color in sorted(legend.items())])
    return Drawing(figure, pd.DataFrame(rows))


def _with_results(run: Run) -> set[str]:
    """The variants of which the run has any result; none of a run that has only its plan."""
    kinds = [kind for kind in ("training", "retrieval", "perplexity", "speed", "memory") if run.has(kind)]
    return {name for kind in kinds for name in run.frame(kind)["variant"]} - {"base"}


def _attention(heads: tuple[bool, ...]) -> str:
    if all(heads):
        return "full"
    return f"full in {sum(heads)} of {len(heads)} heads" if any(heads) else "sparse"


def _look(variant: PlannedVariant, full: bool) -> tuple[str, str]:
    if full:
        return "full attention", style.FULL
    pattern = variant.pattern
    color = _COLORS[bool(pattern.stride), pattern.staggered if pattern.stride else not pattern.sink_blocks]
    return f"sparse: {words.pattern_label(pattern)}", color
