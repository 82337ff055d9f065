"""The figures of a group of seeds: `seeds_ablation` and `seeds_knee`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from longgen.errors import ArtifactError
from longgen.reporting import families, style, words
from longgen.reporting.ablation import INTERVAL
from longgen.reporting.dot_rows import HIGHER, LOWER, Column, comparisons, draw_dot_rows
from longgen.reporting.drawing import Drawing
from longgen.reporting.labels import LabelledPoint, label_points
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.pooling import Estimate, pool
from longgen.reporting.seeds.table import quantities, seeds_table
from longgen.reporting.seeds.values import KV, TASKS, Values

_ABOUT = ["comparison", "variant", "family", "full_layers", "num_layers", "placement", "pattern", "length", "seed"]
_REDUCED = "#8C564B"
_CURVE = (families.FULL, families.RATIO, families.REFERENCE)


def _columns(table: pd.DataFrame) -> list[Column]:
    ticks = (0.0, 0.5, 1.0)
    return [
        Column("needle_exact", f"needle exact match\n{HIGHER}", ticks=ticks),
        *([Column(TASKS, f"mean of all tasks\n{HIGHER}", ticks=ticks)] if TASKS in table else []),
        Column("perplexity", f"perplexity\n{LOWER}"),
        Column(KV, f"KV cache, of full\n{LOWER}", 100, " %", (0, 50, 100)),
    ]


def draw_ablation(group: Group, values: Values) -> Drawing:
    """Dots as in `ratio_placement_pattern`: means over seeds with their intervals, below them the seeds themselves.

    Raises:
        ArtifactError: nothing was measured of any variant.
    """
    table = seeds_table(group, values)
    if table.empty:
        raise next(iter(group.runs.values())).missing("retrieval")
    columns = [column for column in _columns(table) if column.name in table]
    names = [column.name for column in columns]
    pooled, seeds = comparisons(table), _by_seed(values, list(table["variant"]), names)
    note = f"{_note(group)} · means over seeds · tasks pooled over depths · bars: 95 % intervals"
    title = f"What ratio, placement and pattern change, at {words.format_length(values.length)} tokens"
    figure = draw_dot_rows(title, note, pooled, columns, style.variant_styles(group.variants), seeds)
    about = table[["variant", "family", "full_layers", "num_layers", "placement", "pattern", "length"]]
    drawn = pooled.assign(seed=None)
    drawn = pd.concat([drawn, seeds.merge(about)], ignore_index=True).astype({"seed": "Int64"})
    return Drawing(figure, drawn[[*_ABOUT, *(f"{name}{end}" for name in names for end in INTERVAL)]])


def _by_seed(values: Values, variants: list[str], names: list[str]) -> pd.DataFrame:
    """A row per variant and seed, with a column per quantity."""
    wanted = [column for column in quantities(values) if column.name in names]
    rows: dict[tuple[str, int], dict] = {}
    for variant in variants:
        for column in wanted:
            found = column.pooled(values, variant)
            for seed, value in found.by_seed.items() if found else ():
                row = rows.setdefault((variant, seed), {"variant": variant, "seed": seed})
                row[column.name] = value
    return pd.DataFrame(list(rows.values()), columns=["variant", "seed", *names])


def knee_data(group: Group, values: Values) -> pd.DataFrame:
    """What `draw_knee` shows: retrieval and share of the KV cache of every variant and KV reduction.

    Returns:
        a row per mean (``seed`` missing), then one per seed: ``name``, ``what`` (trained or reduced), ``budget_of``,
        ``family``, ``on_curve`` (ratios of the reference's placement and pattern, which a line connects),
        ``kv_fraction``, and ``retrieval`` with its interval: the mean over the tasks that all that is shown was asked.

    Raises:
        ArtifactError: nothing has both.
    """
    own, tasks = families.families(group.plan), shown_tasks(values)
    reference = {group.plan.variants[name].pattern for name, family in own.items() if family == families.REFERENCE}
    curve = {name for name, family in own.items() if family in _CURVE} | {
        name
        for name, family in own.items()
        if family == families.ALL_SPARSE and group.plan.variants[name].pattern in reference
    }
    rows: list[dict] = []
    for variant in group.plan.variants:
        found, kept = values.share(variant, tasks), values.other(variant, KV)
        about = {"name": variant, "what": "trained", "budget_of": None, "family": own[variant]}
        rows += _points(about | {"on_curve": variant in curve}, found, kept)
    for (method, budget_of), seeds in values.reductions.items():
        asked = {seed: each for seed, shares in seeds.items() if (each := shares.of(tasks))}
        about = {"name": method, "what": "reduced", "budget_of": budget_of, "family": families.REDUCTION}
        kept = pool(values.kept[method, budget_of])
        rows += _points(about | {"on_curve": False}, pool(asked) if asked else None, kept)
    if not rows:
        raise ArtifactError(f"{group.name}: no variant has both retrieval and a KV cache at {values.length} tokens")
    data = pd.DataFrame(rows).astype({"seed": "Int64"})
    return data.sort_values("seed", na_position="first", kind="stable").reset_index(drop=True)


def shown_tasks(values: Values) -> list[str]:
    """The tasks that every KV reduction was asked too; all where there is none."""
    asked = [set(shares.tasks) for seeds in values.reductions.values() for shares in seeds.values()]
    return [task for task in values.tasks if all(task in each for each in asked)] or values.tasks


def _points(about: dict, found: Estimate | None, kept: Estimate | None) -> list[dict]:
    if found is None or kept is None:
        return []
    mean: dict = {"seed": None, "retrieval": found.value, "retrieval_low": found.low, "retrieval_high": found.high}
    seeds: list[dict] = [{"seed": seed, "retrieval": value} for seed, value in found.by_seed.items()]
    return [{**about, KV: kept.value, **each} for each in (mean, *seeds)]


def draw_knee(group: Group, values: Values) -> Drawing:
    """Retrieval against the share of the KV cache; the ratios of one placement and pattern are connected."""
    data = knee_data(group, values)
    looks = style.variant_styles(group.variants)
    figure = style.new_figure(
        f"Retrieval at {words.format_length(values.length)} tokens against KV cache",
        f"{_note(group)} · means over seeds · pooled over depths · bars: 95 % intervals",
        height=4.2,
    )
    axes = figure.subplots()
    means = data[data["seed"].isna()]
    curve = means[means["on_curve"]].sort_values(KV)
    axes.plot(curve[KV], curve["retrieval"], color="#cfcfcf", linewidth=2.2, zorder=1)
    for row in means.to_dict("records"):
        _draw_point(axes, row, looks)
    for row in data[data["seed"].notna()].to_dict("records"):
        axes.plot(row[KV], row["retrieval"], ".", color=_look(row, looks).color, ms=5, alpha=0.8, mew=0, zorder=2)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("share of full attention's KV cache (← smaller is better)")
    tasks = shown_tasks(values)
    axes.set_ylabel(f"{'needle exact match' if tasks == ['needle'] else f'mean score of {len(tasks)} tasks'} {HIGHER}")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid()
    axes.margins(x=0.1)
    entries = [
        Line2D([], [], color="#cfcfcf", linewidth=2.2, label="ratios of full layers"),
        Line2D([], [], color=style.INK, marker=".", ls="none", ms=3.5, label="a seed"),
    ]
    if (means["what"] == "reduced").any():
        entries.append(Line2D([], [], color=_REDUCED, marker="v", ls="none", label="full, reduced at inference"))
    style.legend_below(figure, entries)
    label_points(axes, [_labelled(row, looks) for row in means.to_dict("records")])
    return Drawing(figure, data)


def _look(row: dict, looks: dict[str, style.VariantStyle]) -> style.VariantStyle:
    return looks[row["name"]] if row["what"] == "trained" else style.VariantStyle(_REDUCED, "v", row["name"])


def _draw_point(axes: Axes, row: dict, looks: dict[str, style.VariantStyle]) -> None:
    look, value = _look(row, looks), row["retrieval"]
    axes.errorbar(
        row[KV],
        value,
        yerr=np.clip([[value - row["retrieval_low"]], [row["retrieval_high"] - value]], 0, None),
        color=look.color,
        marker=look.marker,
        markersize=6,
        ecolor=(look.color, 0.45),
        elinewidth=0.8,
        capsize=1.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        linestyle="none",
        zorder=3,
    )


def _labelled(row: dict, looks: dict[str, style.VariantStyle]) -> LabelledPoint:
    ends = row["retrieval_low"], row["retrieval_high"]
    return LabelledPoint(row[KV], row["retrieval"], (row[KV], row[KV]), ends, _look(row, looks))


def _note(group: Group) -> str:
    plan = group.plan
    return f"{group.name}, {group.seeds} · {plan.model['num_layers']} layers · {group.device('retrieval')}"
