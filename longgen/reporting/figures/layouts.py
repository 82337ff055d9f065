"""Figure `layouts`: which layers, or heads of them, keep full attention in each variant."""

from __future__ import annotations

import pandas as pd
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import PlannedVariant, Run


def draw(run: Run) -> Drawing:
    """Every variant's stack of layers side by side, layer 0 (next to the embeddings) at the bottom."""
    plan = run.plan
    depth = max(variant.layout.num_layers for variant in plan.variants.values())
    columns = max(4, len(plan.variants))
    figure = style.new_figure(
        "Which layers keep full attention, per variant",
        words.run_note(run),
        height=3.2,
        width=min(style.WIDTH, 1.2 + 0.95 * columns),
    )
    axes = figure.subplots()
    rows, legend = [], {}
    for column, variant in enumerate(plan.variants.values()):
        for layer, entry in enumerate(variant.layout.full):
            heads = entry if isinstance(entry, tuple) else (entry,)
            width = 0.72 / len(heads)
            for head, full in enumerate(heads):
                label, color = _look(variant, full)
                legend[label] = color
                corner = (column - 0.36 + head * width, layer - 0.5)
                axes.add_patch(Rectangle(corner, width, 1, facecolor=color, edgecolor="white", lw=0.6))
            rows.append(
                {
                    "variant": variant.name,
                    "layer": layer,
                    "attention": _attention(heads),
                    "pattern": "none" if all(heads) else variant.pattern_name,
                }
            )
        count = f"{variant.layout.num_full:.3g} of {variant.layout.num_layers}"
        axes.annotate(count, (column, depth - 0.5), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom")
    axes.set_xlim(-0.6, len(plan.variants) - 0.4)
    axes.set_ylim(-0.5, depth * 1.08 - 0.5)
    labels = [words.wrap(words.variant_label(name), 11 if columns < 9 else 9) for name in plan.variants]
    axes.set_xticks(range(len(labels)), labels)
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_ylabel("layer (0 is next to the embeddings)")
    handles = [Patch(facecolor=color, label=label) for label, color in sorted(legend.items())]
    style.legend_below(figure, handles)
    return Drawing(figure, pd.DataFrame(rows))


def _attention(heads: tuple[bool, ...]) -> str:
    if all(heads):
        return "full"
    return f"full in {sum(heads)} of {len(heads)} heads" if any(heads) else "sparse"


def _look(variant: PlannedVariant, full: bool) -> tuple[str, str]:
    if full:
        return "full attention", style.FULL
    color = "#F2B07B" if variant.pattern.stride else "#9CC9E8"
    return f"sparse: {words.pattern_label(variant.pattern)}", color
