"""`longgen profile compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError
from longgen.reporting.profile_comparison import NO_DIFFERENCE, QUANTITIES, SAME, is_worse
from longgen.results import Result, save_result
from tests.reporting.fake_kernels import write_kernel_run

STEPS = ("prefill", "decode", "training")


def speed(stage: str, seconds: float, variant: str = "sink", low: float = 0.9, high: float = 1.1) -> dict:
    row = {"variant": variant, "stage": stage, "length": 512, "n": 5, "seconds": seconds}
    row |= {"seconds_low": low * seconds, "seconds_high": high * seconds}
    speedup = 1.0 if variant == "full" else 4.0 / seconds
    return row | {"speedup": speedup, "speedup_low": speedup if variant == "full" else 0.9 * speedup} | {
        "speedup_high": speedup if variant == "full" else 1.1 * speedup
    }  # fmt: skip


def write(folder: Path, speeds: list[dict], kv_bytes: int, commit: str, **device: object) -> None:
    origin = {"git_commit": commit * 40, "git_dirty": commit == "b", "seed": 0, "date": "2025-01-02T03:04:05+00:00"}
    origin |= {"device": {"name": "Pretend CPU"} | device, "packages": {"torch": "9.9"}}
    memory = {"variant": "sink", "length": 512, "kv_bytes": kv_bytes, "kv_bytes_planned": 0, "kv_fraction": 0.5}
    settings = {"profiling": {"repeats": 5 if commit == "a" else 7}}
    for kind, records in (("speed", speeds), ("memory", [memory])):
        save_result(folder / "profile" / f"{kind}.json", Result(kind, folder.name, records, origin, settings=settings))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    # b: prefill overlaps, decode is faster, training slower; each run has a row of its own
    times = {"prefill": (2.0, 2.1), "decode": (2.0, 1.0), "training": (2.0, 3.0)}
    before = [speed(stage, times[stage][0]) for stage in STEPS]
    after = [speed(stage, times[stage][1]) for stage in STEPS]
    write(tmp_path / "a", [*before, speed("decode", 4.0, "full"), speed("decode", 1.0, "top")], 1024, "a", threads=2)
    write(tmp_path / "published/b", [*after, speed("decode", 4.0, "full")], 2048, "b", threads=4)
    return tmp_path


def call(results: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["profile", "compare", *arguments, "--results", str(results)])
    if result.exception:
        raise result.exception
    return result.output


def tables(output: str) -> dict[tuple[str, str], dict]:
    return {(table["kind"], table["column"]): table for table in json.loads(output)}


def test_a_difference_counts_only_beyond_both_intervals(results: Path) -> None:
    found = tables(call(results, "a", "published/b", "--json"))
    assert set(found) == {("speed", "seconds"), ("speed", "speedup"), ("memory", "kv_bytes")}
    rows = {(row["variant"], row["stage"]): row for row in found["speed", "seconds"]["rows"]}
    assert {key: row["verdict"] for key, row in rows.items()} == {
        ("sink", "prefill"): "no difference shown",
        ("sink", "decode"): "faster",
        ("sink", "training"): "slower",
        ("full", "decode"): "no difference shown",
    }
    training = rows["sink", "training"]
    assert (training["a"], training["b"], training["ratio"]) == (2.0, 3.0, 1.5)
    assert training["ratio_low"] == pytest.approx(2.7 / 2.2)
    assert training["ratio_high"] == pytest.approx(3.3 / 1.8)
    assert found["speed", "seconds"]["only_in_a"] == 1
    assert found["speed", "seconds"]["only_in_b"] == 0


def test_of_speedups_it_is_said_which_is_larger_and_full_over_itself_is_left_out(results: Path) -> None:
    rows = tables(call(results, "a", "published/b", "--json"))["speed", "speedup"]["rows"]
    assert {(row["variant"], row["stage"]): row["verdict"] for row in rows} == {
        ("sink", "prefill"): "no difference shown",
        ("sink", "decode"): "larger",
        ("sink", "training"): "smaller",
    }


def test_any_difference_of_exact_bytes_counts(results: Path) -> None:
    (row,) = tables(call(results, "a", "published/b", "--json"))["memory", "kv_bytes"]["rows"]
    assert (row["a"], row["b"], row["ratio"], row["verdict"]) == (1024, 2048, 2.0, "larger")
    assert row["ratio_low"] is None
    (row,) = tables(call(results, "a", "a", "--json"))["memory", "kv_bytes"]["rows"]
    assert row["verdict"] == "same"


def test_tables_say_machines_commits_days_and_what_else_differs(results: Path) -> None:
    output = call(results, "a", "published/b")
    assert "A = a: Pretend CPU, 2 thread(s); commit aaaaaaaaaaaa; 2025-01-02\n" in output
    assert "commit bbbbbbbbbbbb with uncommitted changes; 2025-01-02\n" in output
    assert "2,000 ms (1,800\u20132,200)" in output
    assert "1.50 (1.23\u20131.83)" in output
    mean = (1.05 * 0.5 * 1.5 * 1.0) ** 0.25
    summary = "speed, seconds: B: 2 no difference shown, 1 faster, 1 slower; B / A over all 4 rows"
    assert f"{summary}: {mean:.2f}\n" in output
    assert "left out: 1 row(s) that only A has, 0 that only B has" in output
    assert "differs too: setting profiling.repeats: 5 and 7" in output
    assert "differs too: machine's threads: 2 and 4" in output
    assert "torch" not in output, "the same version"
    assert output.count("A = a") == 1, "the same for all tables"


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_terminal_and_no_number_in_two(results: Path, width: int, monkeypatch) -> None:
    wide = call(results, "a", "published/b")
    monkeypatch.setattr("longgen.tables.terminal_width", lambda: width)
    narrow = call(results, "a", "published/b")
    assert all(len(line) <= width for line in narrow.splitlines())
    after = slice(wide.index("A = a"), None)  # the tables, arranged otherwise, come before
    assert wide[after].split() == narrow[narrow.index("A = a") :].split()
    summary = "speed, seconds: B: 2 no difference shown, 1 faster, 1 slower; B / A over all 4 rows"
    assert summary in " ".join(narrow.split())


def test_changes_are_shown_the_worse_first_and_the_rest_if_asked_for(results: Path) -> None:
    def stages(output: str) -> list[str]:
        times = output[: output.index("speed, seconds:")]  # the first table
        return [line.split()[0] for line in times.splitlines() if line.startswith(STEPS)]

    assert stages(call(results, "a", "published/b")) == ["training", "decode"]
    everything = call(results, "a", "published/b", "--all")
    assert "no difference shown" in everything[: everything.index("speed, seconds:")]
    times = everything[: everything.index("speed, seconds:")]
    assert len([line for line in times.splitlines() if " ms (" in line]) == 4
    same = call(results, "a", "a")
    assert "----" not in same, "nothing changed: no table"
    assert "speed, seconds: B: 5 no difference shown; B / A over all 5 rows: 1.00" in same


@pytest.mark.parametrize(
    ("column", "verdict", "worse"),
    [
        *(("seconds", "slower", True), ("seconds", "faster", False), ("seconds", NO_DIFFERENCE, False)),
        *(("speedup", "smaller", True), ("speedup", "larger", False)),
        *(("kv_bytes", "larger", True), ("kv_bytes", "smaller", False), ("kv_bytes", SAME, False)),
    ],
)
def test_which_differences_are_bad_news(column: str, verdict: str, worse: bool) -> None:
    quantity = next(each for each in QUANTITIES if each.column == column)
    assert is_worse(quantity, verdict) == worse


def test_tables_from_different_machines_have_their_own_words(results: Path) -> None:
    path = results / "published/b/profile/memory.json"
    path.write_text(path.read_text().replace("Pretend CPU", "Another CPU"))
    output = call(results, "a", "published/b")
    assert output.count("A = a") == 3
    assert output.index("Another CPU") > output.index("memory, kv_bytes")


def test_what_only_one_run_says_is_absent_in_the_other(results: Path) -> None:
    path = results / "published/b/profile/speed.json"
    path.write_text(path.read_text().replace('"torch": "9.9"', '"triton": "3"'))
    cautions = tables(call(results, "a", "published/b", "--json"))["speed", "seconds"]["cautions"]
    assert {"version of torch: 9.9 and absent", "version of triton: absent and 3"} <= set(cautions)


def test_kernels_and_attention_are_compared_by_all_that_names_a_row(results: Path) -> None:
    write_kernel_run(results / "before")

    def one_is_slower(record: dict) -> dict:
        slow = {"implementation": "longgen decode", "shape": "llama2-70b", "length": 4096, "batch": 16}
        if record["status"] == "measured" and record["pattern"] == "sink" and slow.items() <= record.items():
            return record | {name: 2 * record[name] for name in ("seconds", "seconds_low", "seconds_high")}
        return record

    write_kernel_run(results / "after", one_is_slower, device="Pretend GPU B")
    found = tables(call(results, "before", "after", "--json"))
    assert set(found) == {("kernel-speed", "seconds"), ("attention-speed", "seconds"), ("attention-speed", "speedup")}
    slower = [row for row in found["kernel-speed", "seconds"]["rows"] if row["verdict"] != "no difference shown"]
    assert [(row["verdict"], row["ratio"], row["shape"], row["length"]) for row in slower] == [
        ("slower", 2.0, "llama2-70b", 4096)
    ]
    kernels = found["kernel-speed", "seconds"]
    assert "machine's name: Pretend GPU 80GB and Pretend GPU B" in kernels["cautions"]
    assert {row["verdict"] for row in found["attention-speed", "seconds"]["rows"]} == {""}, "without an interval"
    assert "no verdict: these values have no interval" in call(results, "before", "after")


def test_runs_without_a_common_row_are_an_error_that_says_what_they_hold(results: Path) -> None:
    write_kernel_run(results / "kernels")
    with pytest.raises(ArtifactError, match=r"a holds speed, memory; .*kernels holds kernel-speed, attention-speed;"):
        call(results, "a", "kernels")


def test_a_row_that_was_measured_twice_is_an_error(results: Path) -> None:
    write(results / "twice", [speed("decode", 1.0), speed("decode", 2.0)], 1, "a")
    with pytest.raises(ArtifactError, match=r"two results of kind speed for variant sink, stage decode, length 512"):
        call(results, "a", "twice")


def test_a_configuration_is_still_profiled_without_a_verb() -> None:
    result = CliRunner().invoke(app, ["profile", "nowhere.yaml", "--output", "x"])
    assert "nowhere.yaml does not exist" in str(result.exception)
