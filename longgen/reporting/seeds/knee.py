"""Figure `seeds_knee`: retrieval against the share of the KV cache, over the seeds of a group."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from longgen.errors import ArtifactError
from longgen.reporting import families, style, words
from longgen.reporting.ablation import INTERVAL
from longgen.reporting.dot_rows import HIGHER
from longgen.reporting.drawing import Drawing
from longgen.reporting.labels import LabelledPoint
from longgen.reporting.reduction_panel import draw_reductions, prepare_reductions
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.pooling import Estimate, pool
from longgen.reporting.seeds.values import KV, Values
from longgen.reporting.trade_off import (
    APART,
    FRONT,
    TradeOffPoint,
    axis_break,
    cost_axis,
    draw_points,
    name_points,
    reduced_entry,
    score_axis,
    stretch_note,
)

_CURVE = (families.FULL, families.RATIO, families.REFERENCE)


def knee_data(group: Group, values: Values) -> pd.DataFrame:
    """What `draw` shows: retrieval and share of the KV cache of every variant and KV reduction.

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
        share, kv_fraction = values.share(variant, tasks), values.other(variant, KV)
        about = {"name": variant, "what": "trained", "budget_of": None, "family": own[variant]}
        rows += _points(about | {"on_curve": variant in curve}, share, kv_fraction)
    for (method, budget_of), seeds in values.reductions.items():
        by_seed = {seed: each for seed, shares in seeds.items() if (each := shares.of(tasks))}
        about = {"name": method, "what": "reduced", "budget_of": budget_of, "family": families.REDUCTION}
        kv_fraction = pool(values.kv_fractions[method, budget_of])
        rows += _points(about | {"on_curve": False}, pool(by_seed) if by_seed else None, kv_fraction)
    if not rows:
        raise ArtifactError(f"{group.name}: no variant has both retrieval and a KV cache at {values.length} tokens")
    data = pd.DataFrame(rows).astype({"seed": "Int64"})
    return data.sort_values("seed", na_position="first", kind="stable").reset_index(drop=True)


def shown_tasks(values: Values) -> list[str]:
    """The tasks that every KV reduction was asked too; all where there is none."""
    task_sets = [set(shares.tasks) for seeds in values.reductions.values() for shares in seeds.values()]
    return [task for task in values.tasks if all(task in each for each in task_sets)] or values.tasks


def _points(about: dict, share: Estimate | None, kv_fraction: Estimate | None) -> list[dict]:
    if share is None or kv_fraction is None:
        return []
    mean: dict = {"seed": None, "retrieval": share.value, "retrieval_low": share.low, "retrieval_high": share.high}
    seeds: list[dict] = [{"seed": seed, "retrieval": value} for seed, value in share.by_seed.items()]
    return [{**about, KV: kv_fraction.value, **each} for each in (mean, *seeds)]


def draw(group: Group, values: Values) -> Drawing:
    """Retrieval against the share of the KV cache; the ratios of one placement and pattern are connected."""
    data = knee_data(group, values)
    looks = style.variant_styles(group.variants)
    means = data[data["seed"].isna()]
    is_reduction = means["what"] == "reduced"
    break_at = axis_break(means.loc[~is_reduction, "retrieval"])
    about = ["means over seeds", "pooled over depths", "bars: 95 % intervals", APART, *stretch_note(break_at)]
    figure = style.new_figure(
        f"Retrieval at {words.format_length(values.length)} tokens against KV cache",
        words.SEPARATOR.join([group.note, *about]),
        height=7.4 if is_reduction.any() else 4.4,
    )
    panels = figure.subplots(2, 1, height_ratios=[4, 3]) if is_reduction.any() else [figure.subplots()]
    axes = panels[0]
    score_axis(axes, break_at)
    trained = means[~is_reduction]
    cost_axis(axes, trained[KV], 0.1)
    axes.set_xlabel("share of full attention's KV cache (← smaller is better)")
    tasks = shown_tasks(values)
    score = "needle exact match" if tasks == ["needle"] else f"mean score of {len(tasks)} tasks"
    axes.set_ylabel(f"{score} {HIGHER}")
    axes.xaxis.set_major_formatter(words.format_percent)
    axes.grid()
    curve = means[means["on_curve"]].sort_values(KV)
    axes.plot(curve[KV], curve["retrieval"], color=FRONT, linewidth=2.2, zorder=1)
    entries = [
        Line2D([], [], color=FRONT, linewidth=2.2, label="ratios of full layers"),
        Line2D([], [], color=style.INK, marker=".", ls="none", ms=3.5, label="a seed"),
        *([reduced_entry()] if is_reduction.any() else []),
    ]
    style.legend_below(figure, entries)
    scores = data.rename(columns={f"retrieval{end}": f"score{end}" for end in INTERVAL} | {KV: "kv_fraction"})
    if is_reduction.any():
        prepare_reductions(panels[1], scores[scores["seed"].isna()])
        panels[1].set_ylabel(score)
    figure.draw_without_rendering()  # what covers what depends on where the axes are
    points = draw_points(axes, _mean_points(trained, looks))
    for name, each in zip(trained["name"], points, strict=True):
        of_seeds = data[data["seed"].notna() & (data["name"] == name)]
        at = np.full(len(of_seeds), each.point.x)
        axes.plot(at, of_seeds["retrieval"], ".", color=each.point.look.color, ms=4, alpha=0.7, mew=0, zorder=2)
    name_points(axes, points, [curve[[KV, "retrieval"]].to_numpy(float)])
    if is_reduction.any():
        draw_reductions(panels[1], scores[scores["seed"].isna()], looks, scores[scores["seed"].notna()])
    return Drawing(figure, data)


def _mean_points(trained: pd.DataFrame, looks: dict[str, style.VariantStyle]) -> list[TradeOffPoint]:
    points = []
    for row in trained.to_dict("records"):
        ends = row["retrieval_low"], row["retrieval_high"]
        point = LabelledPoint(row[KV], row["retrieval"], (row[KV], row[KV]), ends, looks[row["name"]])
        points.append(TradeOffPoint(point, main=row["family"] == families.REFERENCE))
    return points
