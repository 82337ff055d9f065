"""Figure `needle_reductions`: needles by depth, of hybrids and of KV reductions at inference that keep as much."""

from __future__ import annotations

import re

import pandas as pd

from longgen.errors import ArtifactError
from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.heat_maps import CELL_WITH_VALUE, PANELS_WIDTH, draw_grid, samples_per_cell
from longgen.reporting.measures import pool
from longgen.reporting.run import Run

HYBRID, FULL = "the hybrid", "full, not reduced"
COLUMNS = ["length", "budget_of", "model", "kv_fraction", "depth", "n", "exact", "exact_low", "exact_high"]
_LABEL_WIDTH = 9  # characters of a model's name below its column


def drawn_rows(run: Run) -> pd.DataFrame:
    """Exact match by length, budget, model and depth: the columns `COLUMNS`.

    Models are `HYBRID` (that of the budget), `FULL`, and the methods in the order of all tables and figures
    (`in_method_order`); ``kv_fraction`` is that of the methods. Budgets are in the order of the plan.

    Raises:
        ArtifactError: the run has no KV reductions, or none was asked for needles at several depths.
    """
    rows = run.frame("kv-reduction")
    rows = rows[(rows["task"] == "needle") & rows["depth"].notna()]
    if rows.empty:
        raise ArtifactError(f"{run.missing('kv-reduction')} (it holds no needle at several depths)")
    reductions = pool(
        rows.rename(columns={"method": "model"}), ["length", "budget_of", "model", "kv_fraction", "depth"]
    )
    parts = [_trained_rows(run, reductions), reductions]
    data = pd.concat([part for part in parts if len(part)], ignore_index=True)
    methods = words.in_method_order(reductions["model"])
    order = {"budget_of": list(run.variants), "model": [HYBRID, FULL, *methods]}
    keys = ["length", "budget_of", "model", "depth"]
    data = data.sort_values(keys, key=lambda c: c.map(order[str(c.name)].index) if c.name in order else c)
    return data[COLUMNS].reset_index(drop=True)


def _trained_rows(run: Run, reductions: pd.DataFrame) -> pd.DataFrame:
    """The rows of hybrids and of full attention at the lengths and depths of ``reduced``, per budget."""
    if not run.has("retrieval"):
        return pd.DataFrame()
    needles = run.frame("retrieval")
    needles = pool(needles[needles["task"] == "needle"], ["variant", "length", "depth"])
    cells = reductions[["length", "budget_of", "depth"]].drop_duplicates()
    parts = []
    for model in (HYBRID, FULL):
        model_cells = cells.assign(model=model, variant=cells["budget_of"] if model == HYBRID else "full")
        parts.append(model_cells.merge(needles, on=["variant", "length", "depth"]))
    return pd.concat(parts, ignore_index=True)


def draw(run: Run) -> Drawing:
    """A heat map per budget and length: a column per model, depth on y with 0 (the start) at the top."""
    data = drawn_rows(run)
    models, depths = list(dict.fromkeys(data["model"])), sorted(set(data["depth"]))
    groups = list(data.groupby(["length", "budget_of"], sort=False))
    figure = style.new_figure(
        "Needles by depth: hybrids against KV reduction at inference",
        f"{words.run_note(run)} · {samples_per_cell(data)}",
        height=1.2 + (0.35 + 0.19 * len(depths)) * len(groups),
    )
    panels = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (_, rows) in zip(panels, groups, strict=True):
        matrix = rows.pivot(index="depth", columns="model", values="exact").reindex(index=depths, columns=models)
        mesh = draw_grid(axes, matrix.to_numpy(), PANELS_WIDTH / len(models) >= CELL_WITH_VALUE)
        name, length = words.variant_label(rows["budget_of"].iloc[0]), words.format_length(rows["length"].iloc[0])
        axes.set_title(f"bytes of {name}, {100 * rows['kv_fraction'].max():.0f} % of the KV cache, {length} tokens")
        axes.set_yticks(range(len(depths)), [words.format_percent(depth) for depth in depths])
    panels[-1].set_xticks(range(len(models)), [_in_lines(words.method_label(model)) for model in models])
    figure.supylabel("depth of the needle", fontsize="medium")
    figure.colorbar(mesh, ax=list(panels), label="exact match", aspect=12 * len(groups), fraction=0.05, pad=0.01)
    return Drawing(figure, data)


def _in_lines(label: str) -> str:
    """A name below its column; a long one is broken where its parts meet, as StreamingLLM before LLM."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=-)", " ", label) if len(label) > _LABEL_WIDTH else label
    return words.wrap(parts, _LABEL_WIDTH)
