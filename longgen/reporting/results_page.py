"""docs/results.md: on one page, for readers on the web, what all published runs measured, and what nobody did."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from longgen.evaluation.benchmarks import BENCHMARKS
from longgen.names import HELDOUT
from longgen.records.kinds import KINDS
from longgen.records.schema import MEASURED
from longgen.reporting import SEEDS, TABLES
from longgen.reporting.benchmarks import STAND_IN, is_stand_in
from longgen.reporting.claims import VERDICTS
from longgen.reporting.claims_text import CAUTION, format_range, format_share, format_value, without_repeats
from longgen.reporting.disturbed import with_sign
from longgen.reporting.paper import PaperClaim, paper_claims, scale_name
from longgen.reporting.run import Run
from longgen.reporting.seeds.evidence import evidence_table
from longgen.reporting.seeds.evidence_text import SCALE, evidence_summary
from longgen.reporting.seeds.groups import find_groups
from longgen.reporting.seeds.values import read_values
from longgen.reporting.words import SEPARATOR, variant_label

TINY_SIZES_NOTE = "tried out at tiny sizes: times are no benchmark"
# Figure of a group of seeds -> its words for who cannot see it.
_SEEDS_FIGURES = {
    "seeds_ablation": "Ratio, placement and pattern side by side: means over seeds with intervals, every seed a dot",
    "seeds_knee": "Retrieval against KV cache, ratios connected, and KV reductions at inference",
    "seeds_by_length": "Every task by context length, and perplexity by position",
}
_BY_PEOPLE = "*What we make of it, written by hand; its numbers are those of the tables:*"
# Not what was measured: predictions, and where files are from.
_NO_MEASUREMENTS = ("plan", "publication", "corpus")
# Kind -> its name for readers, where it is another one.
_IN_WORDS = {
    "attention-speed": "speed of sparse attention without Triton",
    "benchmark-summary": "the benchmarks' averages",
    "kv-reduction": "KV reduction at inference",
    "packing": "packing of long documents",
    "serving-speed": "sequences at once and speed of a serving engine",
}
# Kind -> what a reader may look for and not find.
_EXPECTED_KINDS = {
    "kernel-speed": "the Triton kernels on a GPU",
    "training-speed": "training steps at the true sizes of a large model",
    "inference-speed": "prefill and decoding at the true sizes of a large model",
    "perplexity": "perplexity of long documents by position, on PG-19 or another text of that kind",
    "short-context": "benchmarks of short contexts, such as MMLU",
}
_HEAD = """# What was measured

Written by `make figures` from [the tracked results]({results}), not by hand.

LongGen ([arXiv 2410.01485](https://arxiv.org/abs/2410.01485)) makes a hybrid of a pretrained language model: some
layers keep full attention, the others see only the beginning of the text (the sink), a window, and strided blocks if
asked for. That saves time, and much of the KV cache, the memory that grows with the length of the text. A needle is a
fact hidden in a long text, for which the model is asked."""
_LEGEND = """Values are the lowest and the highest of the runs that measured it, with the verdict, or how many runs got
which; {ledger} has each of them with its 95 % interval, and the rule of the verdicts. An *ideal* is what the planner
computes from counted operations and bytes. *Share reached* compares shares of ideals, never the paper's number; *not
reached* and *not shown* mean smaller, or too uncertain to tell. A double dagger marks what was disturbed by other work
on the machine; runs of earlier versions did not record it."""


def results_page(
    runs: Sequence[Run],
    ledger: pd.DataFrame,
    tables: Collection[Path],
    figures: Path,
    page: Path,
    discussions: Mapping[str, str] | None = None,
) -> str:
    """The page as Markdown.

    Args:
        runs: all published runs.
        ledger: that of all of them (`longgen.reporting.claims.ledger`).
        tables: the Markdown tables that were made of them, below ``figures``/<name of the run>.
        figures: the folder of the figures of all runs.
        page: where the text will be: links are relative to it.
        discussions: name of a group of seeds -> what people say of it, in Markdown; the only words that are not made of
            the results.
    """
    place = page.parent

    def link(text: str, path: Path) -> str:
        return f"[{text}]({Path(os.path.relpath(path, place)).as_posix()})"

    rows = [
        {
            "run": link(run.name.rpartition("/")[2], figures / run.name),
            "what": _what(run),
            "measured on": _origin(run),
            "tables": ", ".join(link(path.stem, path) for path in tables if path.parent == figures / run.name),
        }
        for run in runs
    ]
    lines = [
        _HEAD.format(results=Path(os.path.relpath(runs[0].folder.parent, place)).as_posix()),
        "",
        "## The paper's claims",
        "",
        _at_paper_scale(ledger),
        "",
        _claims_table(ledger),
        "",
        CAUTION,
        "",
        _LEGEND.format(ledger=link("the ledger", figures / "published" / "claims.md")),
        "",
        *_explained(),
        "",
        *_over_seeds(runs, link, figures, discussions or {}),
        "## Where and when",
        "",
        _table(rows),
        "",
        "## Not measured",
        "",
        *(f"- {words}" for words in _not_measured(runs, ledger)),
    ]
    return "\n".join(lines) + "\n"


def _over_seeds(
    runs: Sequence[Run], link: Callable[[str, Path], str], figures: Path, discussions: Mapping[str, str]
) -> list[str]:
    """A section on every group of runs that differ in name and seed alone; nothing if there is none."""
    lines = []
    for group in find_groups(runs):
        evidence = evidence_summary(evidence_table(group, read_values(group)))
        parts = [link(name, figures / group.name / f"{name}.md") for name in TABLES[SEEDS]]
        name = group.name.rpartition("/")[2]
        images = [link(words, figures / group.name / f"{figure}.png") for figure, words in _SEEDS_FIGURES.items()]
        discussion = discussions.get(name)
        lines += [
            f"### {name}: {group.seeds}",
            "",
            f"Model of {group.plan.model['num_layers']} layers, at {group.plan.trained_length:,} tokens. "
            f"{SCALE} Values, rules and counts: {', '.join(parts)}.",
            "",
            evidence.to_markdown(index=False, disable_numparse=True),
            "",
            *(line for image in images for line in (f"!{image}", "")),
            *((_BY_PEOPLE, "", discussion.strip(), "") if discussion else ()),
        ]
    return ["## Over several seeds", "", *lines] if lines else []


def _table(rows: Sequence[dict[str, str]]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _paper_scale() -> str:
    paper = paper_claims()
    return scale_name(paper.model, paper.length)


def _at_paper_scale(ledger: pd.DataFrame) -> str:
    rows = ledger[ledger["scale"] == _paper_scale()]
    count = int(rows["measured"].notna().sum())
    scale = f"the paper's scale ({paper_claims().model}, {paper_claims().length:,} tokens)"
    if not count:
        return f"**At {scale} nothing was measured yet.**"
    devices = "; ".join(rows[rows["measured"].notna()]["device"].dropna().unique())
    return f"At {scale} {count} of {len(rows)} rows of the ledger were measured{devices and f', on: {devices}'}."


def _claims_table(ledger: pd.DataFrame) -> str:
    """A row per claim and variant of the runs; what was measured at the paper's scale has a column if anything was."""
    at_paper_scale = ledger["scale"] == _paper_scale()
    measured_there = ledger.loc[at_paper_scale, "measured"].notna().any()
    rows = []
    for claim in paper_claims().claims:
        large = ledger[at_paper_scale & (ledger["claim"] == claim.name)]
        others = ledger[~at_paper_scale & (ledger["claim"] == claim.name)]
        for variant in dict.fromkeys([*others["variant"], *large.loc[large["measured"].notna(), "variant"]]):
            own, same = others[others["variant"] == variant], large[large["variant"] == variant]
            rows.append(
                {
                    "claim": claim.claim,
                    "variant": variant_label(variant),
                    "paper": format_value(claim.paper if claim.paper_words is None else claim.paper_words, claim),
                    "ideal at the paper's scale": _range(same["ideal"], claim),
                }
                | ({"measured at the paper's scale": _measured_text(same, claim)} if measured_there else {})
                | {
                    "measured at other scales": _measured_text(own, claim),
                    "share of the ideal there": _share_range(own["share"]),
                    "paper's share": format_share(_first(own["paper_share"])),
                }
            )
    return _table(without_repeats(rows, "claim"))


def _range(values: pd.Series, claim: PaperClaim) -> str:
    """Least to most of what is there; empty if nothing is."""
    return format_range(values.min(), values.max(), claim)


def _share_range(shares: pd.Series) -> str:
    """Least to most, in per cent; empty if there is none."""
    low, high = format_share(shares.min()), format_share(shares.max())
    return high if low == high else f"{low.removesuffix(' %')} to {high}"


def _first(values: pd.Series) -> float | None:
    return None if values.empty else float(values.iloc[0])


def _measured_text(rows: pd.DataFrame, claim: PaperClaim) -> str:
    """Least to most of the runs that measured it, and their verdicts."""
    counts = rows.loc[rows["measured"].notna(), "verdict"].value_counts()
    distinct = [verdict for verdict in VERDICTS if verdict in counts]
    verdicts = ", ".join(verdict if len(distinct) == 1 else f"{counts[verdict]} {verdict}" for verdict in distinct)
    values = _range(rows["measured"], claim)
    return f"{with_sign(values, bool(rows['disturbed'].any()))}: {verdicts}" if values else "not measured"


def _explained() -> list[str]:
    """What is measured of claims whose name does not say it."""
    return [f"- *{claim.claim}*: {claim.how}." for claim in paper_claims().claims if claim.how]


def _measured_kinds(run: Run) -> list[str]:
    kinds = [kind for kind in KINDS if kind not in _NO_MEASUREMENTS and run.has(kind)]
    # what recall is for a reader: retrieval, and KV reductions
    return [kind for kind in kinds if not kind.startswith("benchmark") or _benchmarks(run) - {"recall"}]


def _benchmarks(run: Run) -> set[str]:
    return set(run.frame("benchmark")["benchmark"]) if run.has("benchmark") else set()


def _what(run: Run) -> str:
    """The model and its lengths, and what was measured; and that the numbers are no benchmark, if they are none."""
    kinds = _measured_kinds(run)
    words = [", ".join(_IN_WORDS.get(kind, kind) for kind in kinds)]
    if run.has("plan"):
        plan = run.plan
        extension = f"extended from {plan.base_length:,} to {plan.trained_length:,} tokens"
        if not any(variant.trained for variant in plan.variants.values()):
            extension = f"not trained, up to {plan.trained_length:,} tokens"
        words.insert(0, f"model {run.model_name}, {plan.model['num_layers']} layers, {extension}")
    if any("stand_in" in KINDS[kind].column_names and is_stand_in(run.frame(kind)) for kind in kinds):
        words.append(STAND_IN)
    if any(run.settings(kind).get("tiny") for kind in kinds):
        words.append(TINY_SIZES_NOTE)
    return SEPARATOR.join(words)


def _origin(run: Run) -> str:
    """Machine, days and commits of what was measured."""
    kinds = _measured_kinds(run)
    commits = {str(result.provenance.get("git_commit"))[:8] for result in run.results if result.kind in kinds}
    return f"{run.device(*kinds)}; {run.days(*kinds)}; commit {', '.join(sorted(commits))}"


def _not_measured(runs: Sequence[Run], ledger: pd.DataFrame) -> list[str]:
    missing = [words for kind, words in _EXPECTED_KINDS.items() if all(_true_rows(run, kind).empty for run in runs)]
    own_data_benchmarks = {name for run in runs for name in _true_rows(run, "benchmark").get("benchmark", ())}
    if missing_benchmarks := [name for name in BENCHMARKS if name not in own_data_benchmarks]:
        missing.insert(0, f"by the benchmark's own rules and on its own data: {', '.join(missing_benchmarks)}")
    rows = ledger[ledger["scale"] == _paper_scale()].groupby("claim", sort=False)["measured"].count()
    claims = {claim.name: claim.claim for claim in paper_claims().claims}
    if open_claims := [claims[str(name)] for name, count in rows.items() if not count]:
        missing.insert(
            0, f"at the paper's scale: {'all of it' if len(open_claims) == len(rows) else '; '.join(open_claims)}"
        )
    if not find_groups(runs):
        missing.append("the claims over several seeds: no runs differ in name and seed alone")
    return missing or ["nothing of what the ledger and the benchmarks ask for"]


def _true_rows(run: Run, kind: str) -> pd.DataFrame:
    """What a run measured of ``kind``, without stand-in data and tries at tiny sizes."""
    if not run.has(kind) or run.settings(kind).get("tiny"):
        return pd.DataFrame()
    rows = run.frame(kind)
    if "status" in rows:
        rows = rows[rows["status"] == MEASURED]
    if kind == "perplexity":
        rows = rows[rows["source"] != HELDOUT]
    return rows[~rows["stand_in"].fillna(True)] if "stand_in" in rows else rows
