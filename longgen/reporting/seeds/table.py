"""Table `seeds`: a row per variant, every quantity with its interval over seeds and samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from longgen.reporting.ablation import TASK_COLUMNS, describe_layers
from longgen.reporting.families import families
from longgen.reporting.measures import TASK_TITLES
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.pooling import Estimate
from longgen.reporting.seeds.values import KV, LOSS, SPEEDUPS, TASKS, THROUGHPUT, Values
from longgen.reporting.words import format_length, variant_label, with_interval

METHOD = (
    "Intervals are 95 %, of a two-level bootstrap: seeds are drawn with replacement, and within each its samples anew "
    "(answers from the posterior of their counts, Jeffreys' of right and wrong ones; of perplexity and times their own "
    "intervals count). They say what seeds like these would give; three say little about seeds that were not tried."
)
SCORE = "exact match (of answers with several parts the share of parts that were given)"


@dataclass(frozen=True)
class SeedQuantity:
    """A column of the table, and those that go with it: ``_low``, ``_high``, ``_seeds``.

    Attributes:
        name: of the column.
        heading: for readers.
        style: its format.
        estimate: of a variant; None if it was not measured.
    """

    name: str
    heading: str
    style: str
    estimate: Callable[[Values, str], Estimate | None]


def quantities(values: Values) -> list[SeedQuantity]:
    """The quantities of the table: every task, their mean if there are several, and what does not depend on tasks."""
    tasks = values.tasks
    headings = {
        KV: ("KV cache", ".1%"),
        **{name: (name.replace("_speedup", ""), ".2f") for name in SPEEDUPS},
        LOSS: ("training loss", ".3f"),
        THROUGHPUT: ("training tokens/s", ".0f"),
    }
    return [
        *(_share_of(TASK_COLUMNS.get(task, f"{task}_exact"), TASK_TITLES.get(task, task), [task]) for task in tasks),
        *([_share_of(TASKS, "all tasks", tasks)] if len(tasks) > 1 else []),
        SeedQuantity("perplexity", "perplexity", ".2f", lambda values, variant: values.perplexity(variant)),
        *(_other(name, heading, style) for name, (heading, style) in headings.items()),
    ]


def _share_of(name: str, heading: str, tasks: list[str]) -> SeedQuantity:
    return SeedQuantity(name, heading, ".3f", lambda values, variant: values.share(variant, tasks))


def _other(name: str, heading: str, style: str) -> SeedQuantity:
    return SeedQuantity(name, heading, style, lambda values, variant: values.other(variant, name))


def seeds_table(group: Group, values: Values) -> pd.DataFrame:
    """One row per variant of which anything was measured, in the plan's order.

    All of it is measured, at the trained length, in column ``length``; ``seeds`` is how many measured anything of the
    variant, ``<quantity>_seeds`` how many that quantity, and ``n`` the samples of all tasks and seeds.
    """
    own, columns = families(group.plan), quantities(values)
    rows = []
    for name, variant in group.plan.variants.items():
        estimates = {column.name: column.estimate(values, name) for column in columns}
        measured_estimates = {name: each for name, each in estimates.items() if each}
        if measured_estimates:
            layout = variant.layout
            rows.append(
                {
                    "variant": name,
                    "family": own[name],
                    "full_layers": layout.num_full,
                    "num_layers": layout.num_layers,
                    "placement": variant.placement if layout.num_full and layout.num_sparse else "none",
                    "pattern": variant.pattern_name if layout.num_sparse else "none",
                    "length": values.length,
                    "seeds": max(each.seeds for each in measured_estimates.values()),
                    "n": sum(shares.n for shares in values.retrieval.get(name, {}).values()),
                    **{key: cell for name, each in estimates.items() for key, cell in _cells(name, each).items()},
                }
            )
    return pd.DataFrame(rows)


def _cells(name: str, estimate: Estimate | None) -> dict[str, float | int | None]:
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
        f"{name}_seeds": estimate.seeds if estimate else 0,
    }


def readable_seeds(table: pd.DataFrame, values: Values) -> pd.DataFrame:
    """The table as text: intervals beside values; in brackets how many seeds, where they are fewer than the row's."""
    rows = []
    for row in table.to_dict("records"):
        cells = {"variant": variant_label(row["variant"]), "full layers": describe_layers(row)}
        cells["seeds"] = str(row["seeds"])
        for column in quantities(values):
            text = with_interval(row, column.name, column.style)
            if text and row[f"{column.name}_low"] == row[f"{column.name}_high"]:
                text = format(row[column.name], column.style)
            fewer = text and row[f"{column.name}_seeds"] < row["seeds"]
            cells[column.heading] = f"{text} [{row[f'{column.name}_seeds']}]" if fewer else text
        rows.append(cells)
    text_table = pd.DataFrame(rows)
    return text_table.loc[:, [name for name in text_table if (text_table[name] != "").any()]]


def seeds_markdown(group: Group, table: pd.DataFrame, values: Values) -> str:
    """The table as Markdown, with what its columns mean."""
    speed = group.device("speed")
    runs = ", ".join(run.name for run in group.runs.values())
    return "\n".join(
        [
            f"# {group.name}: {group.seeds}, at {format_length(values.length)} tokens",
            "",
            f"Means over the runs {runs}, which differ in name and seed alone; "
            f"{', '.join(sorted({device for device in (group.device('retrieval'), speed) if device}))}.",
            "",
            readable_seeds(table, values).to_markdown(index=False, disable_numparse=True),
            "",
            f"All values are measured, at the trained length; an empty cell was not measured. {METHOD} In brackets: of "
            "so many seeds, where they are fewer than the row's.",
            "",
            "- full layers: layers' worth of full attention / all layers, where it is, and the pattern of the rest.",
            f"- tasks: {SCORE}, pooled over depths; all tasks: their mean, each with the same weight.",
            "- perplexity: held-out text, last bin of positions; the geometric mean over seeds.",
            "- KV cache: bytes over those of full attention.",
            "- training, prefill, decode: speed-up over full attention in the same process"
            + (f", on {speed}." if speed else "."),
            "- training loss: the last of the extension. training tokens/s: median during the extension at this "
            "length, of seeds on one device; jobs beside it may have slowed it down.",
            *group.disturbed_lines(),
            "",
        ]
    )


def make_table(group: Group, values: Values) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown."""
    table = seeds_table(group, values)
    return table, seeds_markdown(group, table, values)
