"""The table and figures of a group of seeds, and the command that makes them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.reporting import FIGURE_NAMES, SEEDS, TABLES
from longgen.reporting.claims import ledger
from longgen.reporting.drawing import Drawing, settle_layout
from longgen.reporting.results_page import results_page
from longgen.reporting.run import open_run
from longgen.reporting.seeds import ablation, by_length, knee
from longgen.reporting.seeds.groups import Group, find_groups
from longgen.reporting.seeds.table import readable_seeds, seeds_markdown, seeds_table
from longgen.reporting.seeds.values import Values, read_values
from longgen.reporting.style import paper_style
from longgen.reporting.trade_off import FRONT
from tests.reporting.fake_seeds import (
    BASE,
    BUDGETS,
    DEPTHS,
    REDUCED,
    SAMPLES,
    TASKS,
    TRAINED,
    VARIANTS,
    edit,
    kv_fraction,
    outcomes,
    speedup,
    write_seed,
)
from tests.reporting.test_look import assert_looks_right


def share(variant: str, seed: int, task: str) -> float:
    value = VARIANTS[variant][3] if variant in VARIANTS else REDUCED[variant]
    return sum(outcomes(value, seed, task, depth).count("1") for depth in DEPTHS) / (SAMPLES * len(DEPTHS))


# ---------------------------------------------------------------- table
def test_means_over_seeds_by_hand(seed_group: Group, seed_values: Values) -> None:
    table = seeds_table(seed_group, seed_values).set_index("variant")
    assert list(table.index) == list(VARIANTS)
    for number, (name, row) in enumerate(table.to_dict("index").items()):
        for task in TASKS:
            assert row[f"{task}_exact"] == pytest.approx(np.mean([share(name, seed, task) for seed in range(3)]))
        assert row["retrieval"] == pytest.approx(np.mean([row[f"{task}_exact"] for task in TASKS]))
        assert row["perplexity"] == pytest.approx(math.exp(1.1 + 0.02 * number + 0.01)), "the geometric mean"
        assert row["kv_fraction"] == row["kv_fraction_low"] == pytest.approx(kv_fraction(name))
        faster = [speedup(name, seed) for seed in range(3)]
        assert row["training_speedup"] == pytest.approx(np.mean(faster))
        assert row["training_loss"] == pytest.approx(1.0 + 0.1 * number + 0.01), "the last, not one at another length"
        assert row["training_tokens_per_second"] == pytest.approx((100 + 300 + number) / 2)
        assert (row["seeds"], row["n"]) == (3, 3 * len(TASKS) * len(DEPTHS) * SAMPLES)
        for column in [each.removesuffix("_seeds") for each in table if each.endswith("_seeds")]:
            assert row[f"{column}_low"] <= row[column] <= row[f"{column}_high"]
            assert row[f"{column}_seeds"] == 3
    assert table.loc["longgen-sink", "decode_speedup"] > table.loc["longgen-sink", "prefill_speedup"]


def test_what_fewer_seeds_measured_says_of_how_many(tmp_path: Path) -> None:
    for seed in (0, 1):
        path = write_seed(tmp_path / f"mini-seed-{seed}", seed)
    (path / "benchmarks/full/perplexity.json").unlink()
    (path / "benchmarks/top-1-3/scores.json").unlink()
    for each in ("benchmarks/top-1-3/perplexity.json", "training/top-1-3.json"):
        (path / each).unlink()
    for each in ("speed", "memory"):
        edit(path / f"profile/{each}.json", lambda value: value.update(records=_without(value["records"], "top-1-3")))
    (group,) = find_groups([open_run(f"mini-seed-{seed}", tmp_path) for seed in (0, 1)])
    values = read_values(group)
    table = seeds_table(group, values)
    rows = table.set_index("variant")
    assert (rows.loc["full", "perplexity_seeds"], rows.loc["full", "seeds"]) == (1, 2)
    assert rows.loc["top-1-3", "seeds"] == 1
    readable = readable_seeds(table, values).set_index("variant")
    assert readable.loc["full attention", "perplexity"].endswith(" [1]")
    assert not readable.loc["full attention", "KV cache"].endswith("]")
    assert readable.loc["top 1/3", "seeds"] == "1"
    assert "[" not in readable.loc["top 1/3", "perplexity"]


def _without(records: list[dict], variant: str) -> list[dict]:
    return [record for record in records if record["variant"] != variant]


def test_times_of_another_device_are_not_pooled(tmp_path: Path) -> None:
    for seed in range(3):
        path = write_seed(tmp_path / f"mini-seed-{seed}", seed)
    edit(path / "profile/speed.json", lambda value: value["provenance"].update(device={"name": "another"}))
    (group,) = find_groups([open_run(f"mini-seed-{seed}", tmp_path) for seed in range(3)])
    row = seeds_table(group, read_values(group)).set_index("variant").loc["longgen-sink"]
    assert row["training_speedup"] == pytest.approx((speedup("longgen-sink", 0) + speedup("longgen-sink", 1)) / 2)
    assert (row["training_speedup_seeds"], row["training_tokens_per_second_seeds"], row["needle_exact_seeds"]) == (
        2,
        3,
        3,
    )


def test_the_table_in_words(seed_group: Group, seed_values: Values) -> None:
    table = seeds_table(seed_group, seed_values)
    text = seeds_markdown(seed_group, table, seed_values)
    assert text.startswith("# mini-seeds: seeds 0, 1, 2, at 16K tokens\n")
    (line,) = [line for line in text.splitlines() if line.startswith("| LongGen (sink)")]
    row = table.set_index("variant").loc["longgen-sink"]
    needle = f"{row['needle_exact']:.3f} ({row['needle_exact_low']:.3f}\u2013{row['needle_exact_high']:.3f})"
    assert line.split("|")[2].strip() == "4/12 middle, sink"
    assert line.split("|")[4].strip() == needle
    assert f" {kv_fraction('longgen-sink'):.1%} " in line


REPOSITORY = Path(__file__).parents[2]


# ---------------------------------------------------------------- figures
@pytest.fixture(scope="module", params=[ablation.draw, knee.draw, by_length.draw])
def drawing(request: pytest.FixtureRequest, seed_group: Group, seed_values: Values) -> Drawing:
    with paper_style():
        drawn = request.param(seed_group, seed_values)
        settle_layout(drawn.figure)
    return drawn


@pytest.mark.slow
def test_words_are_inside_and_apart_and_ticks_have_labels(drawing: Drawing) -> None:
    assert_looks_right(drawing.figure)


def test_the_ablation_draws_means_and_seeds(seed_group: Group, seed_values: Values) -> None:
    with paper_style():
        drawn = ablation.draw(seed_group, seed_values)
    means, seeds = drawn.data[drawn.data["seed"].isna()], drawn.data[drawn.data["seed"].notna()]
    assert list(means["comparison"].unique()) == ["ratio", "placement", "pattern"]
    assert list(means[means["comparison"] == "ratio"]["full_layers"]) == [12, 6, 4, 3, 2, 1, 0]
    assert len(seeds) == 3 * len(VARIANTS)
    assert seeds["comparison"].isna().all()
    first = drawn.figure.axes[0]  # ratio, needle
    dots = {tuple(line.get_xdata()) for line in first.lines if line.get_marker() == "."}
    assert tuple(share("middle-1-4", seed, "needle") for seed in range(3)) in dots
    assert len(dots) == 7
    centres = {round(float(bars[0].get_xdata()[0]), 9) for bars in first.containers}
    table = seeds_table(seed_group, seed_values).set_index("variant")
    assert centres == {
        round(table.loc[name, "needle_exact"], 9) for name in means[means["comparison"] == "ratio"]["variant"]
    }


def test_the_knee_connects_the_ratios_in_the_order_of_their_caches(seed_group: Group, seed_values: Values) -> None:
    with paper_style():
        drawn = knee.draw(seed_group, seed_values)
    means = drawn.data[drawn.data["seed"].isna()].set_index(["name", "budget_of"], drop=False)
    axes, reduced_axes = drawn.figure.axes
    x, y = next(line for line in axes.lines if line.get_color() == FRONT).get_data()
    names = ["all-sparse", "middle-1-12", "middle-1-6", "middle-1-4", "longgen-sink", "middle-1-2", "full"]
    assert list(x) == pytest.approx([kv_fraction(name) for name in names])
    both = [[share(name, seed, task) for seed in range(3) for task in TASKS[:2]] for name in names]
    assert list(y) == pytest.approx([np.mean(each) for each in both]), "over the tasks that reductions were asked too"
    trained = means[means["what"] == "trained"]
    assert set(trained["name"]) == set(VARIANTS)
    assert set(trained[~trained["on_curve"]]["name"]) == {"longgen-stride", "ends-1-3", "top-1-3"}
    reduced = means[means["what"] == "reduced"]
    assert {*zip(reduced["name"], reduced["budget_of"], strict=True)} == {
        (method, budget) for budget, methods in BUDGETS.items() for method in methods
    }
    of_tova = [bars.lines[0].get_xydata()[0] for bars in reduced_axes.containers if bars.get_label() == "TOVA"]
    assert sorted(y for _, y in of_tova) == sorted(reduced.loc[reduced["name"] == "tova", "retrieval"])
    row = reduced[(reduced["name"] == "tova") & (reduced["budget_of"] == "longgen-stride")].iloc[0]
    assert row["kv_fraction"] == pytest.approx(kv_fraction("longgen-stride"))
    assert row["retrieval"] == pytest.approx(np.mean([share("tova", s, t) for s in range(3) for t in TASKS[:2]]))
    assert drawn.data["seed"].notna().sum() == 3 * len(means)


def test_lengths_have_their_scores_and_positions_their_perplexity(seed_group: Group, seed_values: Values) -> None:
    with paper_style():
        drawn = by_length.draw(seed_group, seed_values)
    data = drawn.data.set_index(["task", "variant", "length"]).sort_index()
    for name in VARIANTS:
        row = data.loc[("multikey", name, TRAINED)]
        assert row["value"] == pytest.approx(np.mean([share(name, seed, "multikey") for seed in range(3)]))
        assert (row["seeds"], row["n"]) == (3, 3 * len(DEPTHS) * SAMPLES)
        assert row["value_low"] < row["value"] < row["value_high"] or row["value"] in (0, 1)
        assert data.loc[("multikey", name, BASE), "value"] == 0.5
    number = list(VARIANTS).index("ends-1-3")
    before = [data.loc[("perplexity", "ends-1-3", end), "value"] for end in (BASE, TRAINED)]
    last = math.exp(1.1 + 0.02 * number + 0.01)  # the geometric mean of the seeds is that of seed 1
    assert before == pytest.approx([last * math.exp(0.3), last])
    panels = np.array(drawn.figure.axes).reshape(4, 3)
    assert [axes.get_title() for axes in panels[0]] == ["ratio", "placement", "pattern"]
    assert [line[0].get_ylabel().split("\n")[0] for line in panels] == [
        *("needle in a haystack", "multi-key needle", "hopeless"),
        "perplexity",
    ]
    ends = [line for line in panels[3, 1].lines if line.get_ydata()[-1] == before[-1]]
    assert [list(line.get_xdata()) for line in ends] == [[BASE, TRAINED]]
    drawn_needles = {tuple(bars[0].get_ydata()) for bars in panels[0, 1].containers}
    assert tuple(data.loc[("needle", "top-1-3")]["value"]) in drawn_needles
    shown = {bars.get_label() for axes in panels[0] for bars in axes.containers}
    assert len(shown) == len(VARIANTS)


# ---------------------------------------------------------------- command
def run_figures(folder: Path, output: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["figures", *words, "--results", str(folder), "--output", str(output)])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_runs_that_are_given_together_are_drawn_together(seed_group_folder: Path, tmp_path: Path) -> None:
    only = [word for name in (*FIGURE_NAMES[SEEDS], *TABLES[SEEDS]) for word in ("--only", name)]
    names = ["mini", "mini-seed-1", "mini-seed-2"]
    code, output = run_figures(seed_group_folder, tmp_path, *names, *only)
    assert code == 0, output
    made = {path.name for path in (tmp_path / "mini-seeds").iterdir()}
    figures = {f"{name}.{end}" for name in FIGURE_NAMES[SEEDS] for end in ("png", "pdf", "csv")}
    assert made == figures | {f"{name}.{end}" for name in TABLES[SEEDS] for end in ("md", "csv")}
    assert [path.name for path in tmp_path.iterdir()] == ["mini-seeds"], "the runs' own parts were not asked for"
    table = pd.read_csv(tmp_path / "mini-seeds/evidence.csv")
    assert set(table["verdict"]) <= {"holds", "does not hold", "not shown", "not measured"}
    again = tmp_path / "again"
    assert run_figures(seed_group_folder, again, *reversed(names), "--only", "evidence")[0] == 0
    for name in ("evidence.csv", "evidence.md"):
        assert (again / "mini-seeds" / name).read_bytes() == (tmp_path / "mini-seeds" / name).read_bytes()


def test_runs_that_are_no_group_are_told_why(tmp_path: Path) -> None:
    for seed in (0, 1):
        path = write_seed(tmp_path / f"results/mini-seed-{seed}", seed)
    edit(path / "plan.json", lambda value: value["settings"].update(base_length=1))
    names = ["mini-seed-0", "mini-seed-1"]
    code, output = run_figures(tmp_path / "results", tmp_path / "out", *names, "--only", "seeds")
    assert code != 0
    assert "allowed for runs that differ in name and seed alone; mini-seed-0 and mini-seed-1 differ in plan" in output
    code, output = run_figures(tmp_path / "results", tmp_path / "out", "mini-seed-0", "--only", "seeds")
    assert "one run is no group" in output
    code, output = run_figures(tmp_path / "results", tmp_path / "out", *names, "--only", "ablation")
    assert (code, "no group" in output or "differ" in output) == (0, False)


def numbers_of(group: Path) -> set[str]:
    """All numbers of a group's tables and figures as a reader may write them: rounded, shares also in per cent."""
    found = set()
    for path in group.glob("*.csv"):
        for value in pd.read_csv(path).select_dtypes("number").to_numpy().ravel():
            found |= {f"{abs(factor * value):.{digits}f}" for factor in (1, 100) for digits in (1, 2, 3)}
    return found


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs/discussion").glob("*.md")), ids=lambda path: path.stem)
def test_what_people_say_of_results_has_no_number_of_their_own(path: Path) -> None:
    group = REPOSITORY / "paper_figures/published" / path.stem
    assert group.is_dir(), "of a published group"
    said = re.findall(r"(?<![\w.-])[0-9]+\.[0-9]+", path.read_text("utf-8"))
    assert said, "a discussion without numbers says nothing"
    assert not set(said) - numbers_of(group)


@pytest.mark.slow
def test_published_groups_have_a_section_on_the_page(tmp_path: Path) -> None:
    for seed in range(2):
        write_seed(tmp_path / f"published/mini-gpu{'-seed-1' if seed else ''}", seed)
    runs = [open_run(f"published/{name}", tmp_path) for name in ("mini-gpu", "mini-gpu-seed-1")]
    text = results_page(runs, ledger(runs), [], Path("paper_figures"), Path("docs/results.md"))
    assert "### mini-gpu-seeds: seeds 0, 1\n" in text
    assert "(../paper_figures/published/mini-gpu-seeds/evidence.md)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| Full layers in the middle retrieve better")]
    claim, comparison, *_, verdict = (cell.strip() for cell in line.strip("|").split("|"))
    assert (claim.rpartition(": ")[2], comparison, verdict) == ("**holds**", "LongGen (sink) against ends 1/3", "holds")
    assert "several seeds: no runs" not in text
    images = [line for line in text.splitlines() if line.startswith("![")]
    assert len(images) == len(FIGURE_NAMES[SEEDS])
    for name, line in zip(FIGURE_NAMES[SEEDS], images, strict=True):
        assert line.endswith(f"](../paper_figures/published/mini-gpu-seeds/{name}.png)")
    assert "by hand" not in text.partition("## Over several seeds")[2]
    said = {"mini-gpu-seeds": "It is so.\n", "others-seeds": "It is not.\n"}
    text = results_page(runs, ledger(runs), [], Path("paper_figures"), Path("docs/results.md"), said)
    assert "It is so." in text.partition("by hand")[2]
    assert "It is not." not in text
    alone = results_page(runs[:1], ledger(runs[:1]), [], Path("paper_figures"), Path("docs/results.md"))
    assert "## Over several seeds" not in alone
    assert "- the claims over several seeds: no runs differ in name and seed alone\n" in alone
