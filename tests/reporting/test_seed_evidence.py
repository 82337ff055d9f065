"""The evidence over seeds: verdicts by rule, the right variants and samples, and what nobody measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from longgen.errors import ArtifactError, ConfigError
from longgen.layout import make_layout
from longgen.pattern import SparsePattern
from longgen.reporting.run import PlannedVariant, open_run
from longgen.reporting.seeds.claims import Comparison, Role, SeedClaim, SeedClaims, seed_claims
from longgen.reporting.seeds.evidence import claim_verdicts, evidence_table, judge, weakest
from longgen.reporting.seeds.evidence_text import evidence_markdown, evidence_summary
from longgen.reporting.seeds.groups import Group, find_groups
from longgen.reporting.seeds.pooling import Estimate
from longgen.reporting.seeds.values import Values, read_values
from tests.reporting.fake_run import recalled
from tests.reporting.fake_seeds import (
    BUDGETS,
    DEPTHS,
    REDUCED,
    SAMPLES,
    TRAINED,
    VARIANTS,
    cell,
    edit,
    outcomes,
    speedup,
    write_seed,
)

ABOVE, BELOW = Comparison("a", "b", above=-1.0), Comparison("a", "b", below=1.0)


@pytest.mark.parametrize(
    ("comparison", "low", "high", "expected"),
    [
        (ABOVE, -0.9, 3.0, "holds"),
        (ABOVE, -1.0, 3.0, "not shown"),  # at the limit is not above it
        (ABOVE, -5.0, -0.9, "not shown"),
        (ABOVE, -5.0, -1.0, "does not hold"),
        (ABOVE, -5.0, -3.0, "does not hold"),
        (BELOW, -5.0, 0.9, "holds"),
        (BELOW, -5.0, 1.0, "not shown"),
        (BELOW, 0.9, 2.0, "not shown"),
        (BELOW, 1.0, 2.0, "does not hold"),
    ],
)
def test_verdicts_go_by_the_whole_interval(comparison: Comparison, low: float, high: float, expected: str) -> None:
    assert judge(comparison, Estimate((low + high) / 2, low, high, {0: 0.0}, 1)) == expected
    assert judge(comparison, None) == "not measured"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "does not hold", "not shown"], "does not hold"),
        (["holds", "not shown"], "not shown"),
        (["holds", "not measured"], "not shown"),
        (["not measured", "not measured"], "not measured"),
    ],
)
def test_a_claim_is_as_good_as_its_weakest_comparison(verdicts: list[str], expected: str) -> None:
    assert weakest(verdicts) == expected


def row_of(table: pd.DataFrame, claim: str, first: str, second: str) -> dict[str, Any]:
    (row,) = table[(table["claim"] == claim) & (table["first"] == first) & (table["second"] == second)].to_dict(
        "records"
    )
    return row


def right(name: str, seed: int, tasks: tuple[str, ...] = ("needle", "multikey")) -> float:
    """Right answers of a variant or method, over all tasks and depths."""
    share = VARIANTS[name][3] if name in VARIANTS else REDUCED[name]
    return sum(outcomes(share, seed, task, depth).count("1") for task in tasks for depth in DEPTHS)


def test_differences_are_of_the_two_variants_over_the_tasks_that_full_attention_answers(
    seed_group: Group, seed_values: Values
) -> None:
    table = evidence_table(seed_group, seed_values)
    count = 2 * len(DEPTHS) * SAMPLES
    for claim, first, second in (
        ("third-is-enough", "longgen-sink", "full"),
        ("third-is-enough", "longgen-stride", "full"),
        ("training-with-full-layers-is-needed", "longgen-sink", "all-sparse"),
        ("middle-beats-ends", "longgen-sink", "ends-1-3"),
        ("third-is-the-knee", "middle-1-2", "longgen-sink"),
        ("third-is-the-knee", "longgen-sink", "middle-1-4"),
        ("third-is-the-knee", "longgen-sink", "middle-1-6"),
    ):
        row = row_of(table, claim, first, second)
        expected = sum(right(first, seed) - right(second, seed) for seed in range(3)) / (3 * count)
        assert row["measured"] == pytest.approx(100 * expected), (first, second)
        assert (row["tasks"], row["seeds"], row["n"], row["paired"]) == ("needle, multikey", 3, 3 * count, True)
        assert row["interval_low"] <= row["measured"] <= row["interval_high"]
    assert list(table["claim"].unique()) == [claim.name for claim in seed_claims().claims]


def test_every_kv_reduction_with_the_hybrids_budget_is_compared(seed_group: Group, seed_values: Values) -> None:
    table = evidence_table(seed_group, seed_values)
    for hybrid, methods in BUDGETS.items():
        rows = table[(table["first"] == hybrid) & table["second"].str.contains("reduced")]
        assert list(rows["second"]) == [f"full, reduced: {method}" for method in methods]
        for method in methods:
            row = row_of(table, "training-with-full-layers-is-needed", hybrid, f"full, reduced: {method}")
            ahead = sum(right(hybrid, seed) - right(method, seed) for seed in range(3)) / (
                3 * 2 * len(DEPTHS) * SAMPLES
            )
            assert row["measured"] == pytest.approx(100 * ahead)
            assert row["verdict"] == "holds"
    assert claim_verdicts(table)["training-with-full-layers-is-needed"] == "holds"


def test_speed_ups_are_those_of_training(seed_group: Group, seed_values: Values) -> None:
    table = evidence_table(seed_group, seed_values)
    for name in ("longgen-sink", "longgen-stride"):
        row = row_of(table, "training-is-faster", name, "full")
        assert row["measured"] == pytest.approx(sum(speedup(name, seed) for seed in range(3)) / 3)
        assert (row["unit"], row["verdict"], row["paired"]) == ("x", "holds", None)


def group_of(folder: Path) -> tuple[Group, Values]:
    (group,) = find_groups([open_run(path.name, folder) for path in sorted(folder.iterdir())])
    return group, read_values(group)


def two(folder: Path, change: Any = None) -> tuple[Group, Values]:
    for name, seed in (("mini", 0), ("mini-seed-1", 1)):
        path = write_seed(folder / name, seed)
        if change:
            change(path, seed)
    return group_of(folder)


def answers(path: Path, variant: str, share: float, seed: int) -> None:
    """Give a variant another share of right answers."""

    def change(value: dict[str, Any]) -> None:
        cells = [(record["task"], record["depth"]) for record in value["records"] if record["length"] == TRAINED]
        value["records"] = recalled([cell(task, depth, outcomes(share, seed, task, depth)) for task, depth in cells])

    edit(path / f"benchmarks/{variant}/scores.json", change)


def test_what_does_not_hold_is_shown_as_such(tmp_path: Path) -> None:
    def ends_are_better(path: Path, seed: int) -> None:
        answers(path, "longgen-sink", 0.3, seed)
        answers(path, "ends-1-3", 0.9, seed)
        edit(
            path / "profile/speed.json",
            lambda value: [
                record.update(speedup=0.8, speedup_low=0.75, speedup_high=0.85)
                for record in value["records"]
                if record["variant"] == "longgen-stride"
            ],
        )

    group, values = two(tmp_path, ends_are_better)
    table = evidence_table(group, values)
    verdicts = claim_verdicts(table)
    assert (
        verdicts["middle-beats-ends"] == verdicts["third-is-enough"] == verdicts["third-is-the-knee"] == "does not hold"
    )
    assert row_of(table, "training-is-faster", "longgen-sink", "full")["verdict"] == "holds"
    assert verdicts["training-is-faster"] == "does not hold", "of the stride"
    text = evidence_markdown(group, table)
    (line,) = [line for line in text.splitlines() if "at the ends" in line and "**" in line]
    assert line.split("|")[2].strip() == "**does not hold**"


def test_identical_answers_to_few_questions_show_little(tmp_path: Path) -> None:
    group, values = two(tmp_path, lambda path, seed: answers(path, "longgen-sink", VARIANTS["full"][3], seed))
    row = row_of(evidence_table(group, values), "third-is-enough", "longgen-sink", "full")
    assert row["measured"] == 0.0
    assert row["interval_low"] < -0.5 < 0.5 < row["interval_high"]


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    def less(path: Path, seed: int) -> None:
        for name in ("ends-1-3", "middle-1-4"):
            (path / "benchmarks" / name / "scores.json").unlink()
        for budget in BUDGETS:
            (path / f"benchmarks/full/reduced-as-{budget}/scores.json").unlink()
        (path / "profile/speed.json").unlink()

    group, values = two(tmp_path, less)
    table = evidence_table(group, values)
    row = row_of(table, "middle-beats-ends", "longgen-sink", "ends-1-3")
    assert row["verdict"] == "not measured"
    assert row["seeds"] == 0
    assert pd.isna(row["measured"]) and pd.isna(row["n"]) and pd.isna(row["tasks"])
    needed = table[table["claim"] == "training-with-full-layers-is-needed"]
    assert list(needed["verdict"]) == ["holds", "not measured", "not measured"]
    verdicts = claim_verdicts(table)
    assert verdicts["training-with-full-layers-is-needed"] == "not shown", "a part is not measured"
    assert verdicts["middle-beats-ends"] == verdicts["training-is-faster"] == "not measured"
    told = evidence_summary(table)
    assert list(told["verdict"]) == list(table["verdict"])
    training = table["claim"] == "training-is-faster"
    assert set(told.loc[training, "measured (95 % interval)"]) == {""}
    first = "Training the hybrid is faster than training full attention: **not measured**"
    assert list(told.loc[training, "claim"]) == [first, ""]


def test_where_full_attention_answers_nothing_there_is_nothing_to_compare(tmp_path: Path) -> None:
    group, values = two(tmp_path, lambda path, seed: answers(path, "full", 0.2, seed))
    table = evidence_table(group, values)
    assert set(table[table["unit"] == "points"]["verdict"]) == {"not measured"}
    assert "at least 50%: there is none" in evidence_markdown(group, table)


def test_of_answers_with_several_parts_their_share_is_compared(tmp_path: Path) -> None:
    """Of multivalue: no answer is exact, yet the hybrid gives three of four parts and full attention all but one."""
    given = {"full": "4" * (SAMPLES - 1) + "3", "longgen-sink": "3" * SAMPLES}

    def in_parts(path: Path, seed: int) -> None:
        for variant, digits in given.items():
            share = sum(map(int, digits)) / (4 * SAMPLES)
            told = {"exact": 0.0, "exact_low": 0.0, "exact_high": 0.1, "task": "multivalue", "parts_given": digits}
            told |= {"share": share, "share_low": share, "share_high": share}
            cells = [cell("multikey", depth, "0" * SAMPLES) | told for depth in DEPTHS]

            def change(value: dict[str, Any], cells: list[dict[str, Any]] = cells) -> None:
                others = [row for row in value["records"] if row["task"] != "multikey" and row["length"] == TRAINED]
                value["records"] = others + recalled(cells)

            edit(path / f"benchmarks/{variant}/scores.json", change)

    group, values = two(tmp_path, in_parts)
    row = row_of(evidence_table(group, values), "third-is-enough", "longgen-sink", "full")
    assert (row["tasks"], row["paired"]) == ("needle, multivalue", True)
    count = len(DEPTHS) * SAMPLES
    needles = sum(right("longgen-sink", seed, ("needle",)) - right("full", seed, ("needle",)) for seed in (0, 1))
    parts = (3 * SAMPLES - (4 * SAMPLES - 1)) / (4 * SAMPLES)
    assert row["measured"] == pytest.approx(100 * (needles / (2 * count) + parts) / 2)


def test_files_that_do_not_say_what_each_answer_gave_are_compared_by_counts(tmp_path: Path) -> None:
    def forget(path: Path, seed: int) -> None:
        edit(
            path / "benchmarks/full/scores.json",
            lambda value: [record.update(outcomes=None) for record in value["records"]],
        )

    group, values = two(tmp_path, forget)
    row = row_of(evidence_table(group, values), "third-is-enough", "longgen-sink", "full")
    assert row["paired"] is False
    expected = sum(right("longgen-sink", seed) - right("full", seed) for seed in (0, 1)) / (
        2 * 2 * len(DEPTHS) * SAMPLES
    )
    assert row["measured"] == pytest.approx(100 * expected)


@pytest.mark.parametrize("damaged", [[1.0] * (SAMPLES - 1), [1.0] * SAMPLES, [2.0] + [0.0] * (SAMPLES - 1)])
def test_outcomes_that_contradict_the_counts_are_refused(damaged: list[float], tmp_path: Path) -> None:
    def damage(path: Path, seed: int) -> None:
        edit(
            path / "benchmarks/all-sparse/scores.json",
            lambda value: value["records"][0].update(outcomes=damaged),
        )

    with pytest.raises(ArtifactError, match=r"parts_given of kind retrieval is .*needle, 16384 tokens, depth 0.0"):
        two(tmp_path, damage)


def planned(ratio: str, placement: str = "middle", stride: int = 0, staggered: bool = False, layers: int = 12) -> Any:
    pattern = SparsePattern(64, 1, 8, stride, staggered=staggered)
    return PlannedVariant("any name", make_layout(layers, ratio, placement), pattern, "p", placement, True)


def test_variants_are_known_by_what_they_are() -> None:
    third = Role("1/3", "middle", "sink")
    assert third.fits(planned("1/3"))
    assert third.fits(planned("4"))
    assert not third.fits(planned("1/4"))
    assert not third.fits(planned("1/3", "ends"))
    assert not third.fits(planned("1/3", stride=16))
    assert Role("1/3", "middle", "stride").fits(planned("1/3", stride=16))
    assert not Role("1/3", "middle", "stride").fits(planned("1/3", stride=16, staggered=True))
    assert Role("all").fits(planned("all", stride=16))
    assert Role("1/3", "ends", "sink").fits(planned("1/3", "ends"))
    assert not Role("1/4", "middle", "sink").fits(planned("1/4", layers=6)), "2 of 6 layers are no quarter"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Comparison("a", "b"), "above is None"),
        (lambda: Comparison("a", "b", 1.0, 2.0), "above is 1.0"),
        (lambda: SeedClaim("n", "c", "retrieval", []), "comparisons is []"),
        (lambda: SeedClaim("n", "c", "training-speedup", [ABOVE]), "with second: full"),
        (lambda: Role("1/3", "sideways"), "placement is 'sideways'"),
        (lambda: SeedClaims({}, 0.5, []), "with full, the baseline"),
        (
            lambda: SeedClaims({"full": Role("all")}, 0.5, [SeedClaim("n", "c", "retrieval", [ABOVE])]),
            "n: first is 'a': allowed is full",
        ),
    ],
)
def test_a_damaged_file_of_claims_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)


def test_the_text_has_every_comparison_with_its_interval_and_rule(seed_group: Group, seed_values: Values) -> None:
    table = evidence_table(seed_group, seed_values)
    text = evidence_markdown(seed_group, table)
    assert "mini, mini-seed-1, mini-seed-2" in text
    assert "not the paper's" in text
    for row in table.to_dict("records"):
        value = f"{row['measured']:.2f}\u00d7" if row["unit"] == "x" else f"{row['measured']:.1f} points"
        assert [line for line in text.splitlines() if value in line and f"| {row['rule']} " in line]
    assert f"{TRAINED // 1024}K tokens" in text
