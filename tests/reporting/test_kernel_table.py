"""Targets of the kernels and the verdicts on them, and the table for readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from longgen.errors import ArtifactError
from longgen.reporting.attention_speed import attention_speed_markdown
from longgen.reporting.kernel_measures import crossover
from longgen.reporting.kernel_table import COLUMNS, kernel_markdown, kernel_table
from longgen.reporting.kernel_targets import kernel_targets, target_rows
from longgen.reporting.run import Run, open_run
from tests.reporting.fake_kernels import DAY, GPU, Record, speed_records, write_kernel_run

LONG = 131072
# measure, stage, pattern -> what the issue asks for
TARGETS = {
    ("fraction_of_ideal", "forward", "stride-16"): 0.6,
    ("fraction_of_ideal", "forward", "sink"): 0.5,
    ("fraction_of_ideal", "forward+backward", "stride-16"): 0.5,
    ("fraction_of_ideal", "forward+backward", "sink"): 0.4,
    ("fraction_of_ideal", "decode", "full"): 0.8,
    **{("over_flex", s, p): 1.3 for s in ("forward", "forward+backward") for p in ("sink", "stride-16")},
    **{("speedup", s, p): 1.0 for s in ("forward", "forward+backward", "decode") for p in ("sink", "stride-16")},
}
IDEALS = [key for key in TARGETS if key[0] == "fraction_of_ideal"]
FLEX = [key for key in TARGETS if key[0] == "over_flex"]
DENSE = [key for key in TARGETS if key[0] == "speedup"]
Key = tuple[str, str, str]


def row(run: Run, key: Key) -> dict[str, Any]:
    rows = target_rows(run)
    found = rows[(rows["measure"] == key[0]) & (rows["stage"] == key[1]) & (rows["pattern"] == key[2])]
    assert len(found) == 1
    return {str(name): value for name, value in found.iloc[0].items()}


def changed(folder: Path, change: Callable[[Record], Record] = dict, **settings: Any) -> Run:
    return open_run("kernels-gpu", write_kernel_run(folder / "kernels-gpu", change, **settings).parent)


def is_ours(record: Record, key: Key, length: int | None = None) -> bool:
    names = ("stage", "pattern", "shape", "batch")
    same = tuple(record[name] for name in names) == (key[1], key[2], "llama2-7b", 1)
    return same and record["implementation"].startswith("longgen") and length in (None, record["length"])


def not_measured(record: Record) -> Record:
    names = ("n", "seconds", "seconds_low", "seconds_high", "flops_per_second", "bytes_per_second", "ideal_seconds")
    blank = dict.fromkeys([*names, "fraction_of_ideal", "speedup"])
    return record | blank | {"status": "not measured", "reason": "no time left"}


def test_targets_are_those_of_the_issue() -> None:
    found = {(g.measure, t.stage, t.pattern): t.at_least for g in kernel_targets().groups for t in g.targets}
    assert found == TARGETS
    lengths = {group.measure: group.lengths for group in kernel_targets().groups}
    assert lengths == {
        "fraction_of_ideal": [LONG],
        "over_flex": [LONG],
        "speedup": [8192, 16384, 32768, 65536, LONG],
    }
    assert kernel_targets().shape == "llama2-7b"


@pytest.mark.parametrize("key", IDEALS)
@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "reached"), (1.0001, "not reached"), (0.9, "reached")])
def test_fraction_of_the_ideal_at_its_boundary(key: Key, slower: float, verdict: str, tmp_path: Path) -> None:
    """The upper end of the time decides: at exactly the target it is reached."""

    def change(record: Record) -> Record:
        if not is_ours(record, key, LONG):
            return record
        high = record["ideal_seconds"] / TARGETS[key] * slower
        fraction = record["ideal_seconds"] / (high / 1.1)
        return record | {"seconds": high / 1.1, "seconds_high": high, "fraction_of_ideal": fraction}

    found = row(changed(tmp_path, change), key)
    assert found["verdict"] == verdict
    assert found["low"] == pytest.approx(TARGETS[key] / slower)
    assert found["measured"] == pytest.approx(TARGETS[key] / slower * 1.1)
    assert found["length"] == LONG


@pytest.mark.slow
@pytest.mark.parametrize("key", FLEX)
@pytest.mark.parametrize("fastest", ["flex-128", "flex-64"])
@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "reached"), (1.0001, "not reached")])
def test_over_the_fastest_flex_attention_at_its_boundary(
    key: Key, fastest: str, slower: float, verdict: str, tmp_path: Path
) -> None:
    high = next(r["seconds_high"] for r in speed_records() if is_ours(r, key, LONG))

    def change(record: Record) -> Record:
        if (record["stage"], record["pattern"], record["length"]) != (key[1], key[2], LONG):
            return record
        times = {"flex-128": 1.3 * high / slower, "flex-64": 1.3 * high / slower}
        times |= {name: 9 * high for name in times if name != fastest}
        if record["implementation"] not in times or record["shape"] != "llama2-7b":
            return record
        return record | {"seconds": times[record["implementation"]]}

    found = row(changed(tmp_path, change), key)
    assert found["verdict"] == verdict
    assert found["low"] == pytest.approx(1.3 / slower)


@pytest.mark.slow
@pytest.mark.parametrize("key", DENSE)
@pytest.mark.parametrize("length", [8192, 65536])
@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "reached"), (1.0001, "not reached")])
def test_never_slower_than_dense_at_any_length(
    key: Key, length: int, slower: float, verdict: str, tmp_path: Path
) -> None:
    def change(record: Record) -> Record:
        if is_ours(record, key, 4096):
            return record | {"speedup": 0.5}  # shorter than what the target asks for
        if not is_ours(record, key, length):
            return record
        return record | {"speedup": record["seconds_high"] / record["seconds"] / slower}

    found = row(changed(tmp_path, change), key)
    assert found["verdict"] == verdict
    assert found["low"] == pytest.approx(1 / slower)
    assert found["length"] == length


@pytest.mark.slow
@pytest.mark.parametrize("key", TARGETS)
def test_one_length_not_measured_is_not_measured(key: Key, tmp_path: Path) -> None:
    length = 16384 if key[0] == "speedup" else LONG
    run = changed(tmp_path, lambda record: not_measured(record) if is_ours(record, key, length) else record)
    assert row(run, key)["verdict"] == "not measured"
    if key[0] != "speedup":
        assert pd.isna(row(run, key)["measured"])
    others = target_rows(run)
    same = (others["stage"] == key[1]) & (others["pattern"] == key[2])
    assert (others.loc[~same, "verdict"] != "not measured").all(), "the others are judged all the same"


def test_slower_at_one_length_is_not_reached_whatever_was_not_measured(tmp_path: Path) -> None:
    key = ("speedup", "forward", "sink")

    def change(record: Record) -> Record:
        if is_ours(record, key, 16384):
            return not_measured(record)
        return record | {"speedup": 0.9} if is_ours(record, key, 8192) else record

    assert row(changed(tmp_path, change), key)["verdict"] == "not reached"


def test_without_any_flex_attention_its_targets_are_not_measured(tmp_path: Path) -> None:
    run = changed(tmp_path, lambda r: not_measured(r) if r["implementation"].startswith("flex") else r)
    for key in TARGETS:
        assert (row(run, key)["verdict"] == "not measured") == (key in FLEX)


def test_a_try_on_a_cpu_measures_no_target(tmp_path: Path) -> None:
    assert set(target_rows(changed(tmp_path))["verdict"]) == {"reached"}
    rows = target_rows(changed(tmp_path, tiny=True))
    assert set(rows["verdict"]) == {"not measured"}
    assert rows[["measured", "low", "length"]].isna().all(axis=None)


def test_other_models_and_many_sequences_do_not_count(tmp_path: Path) -> None:
    def change(record: Record) -> Record:
        return record if (record["shape"], record["batch"]) == ("llama2-7b", 1) else record | {"speedup": 0.1}

    rows = target_rows(changed(tmp_path, change))
    assert set(rows["verdict"]) == {"reached"}
    assert (rows["low"] >= rows["at_least"]).all()


@pytest.mark.parametrize(
    ("lows", "length"),
    [
        ({4: 1.1, 8: 1.2, 16: 1.3}, 4),
        ({4: 0.9, 8: 1.0, 16: 1.3}, 8),
        ({4: 1.2, 8: 0.99, 16: 1.3}, 16),
        ({16: 1.3, 8: 1.1, 4: 0.99}, 8),
        ({4: 1.2, 8: 1.2, 16: 0.99}, None),
        ({4: 1.2, 8: None, 16: 1.2}, 4),
        ({}, None),
    ],
)
def test_crossover(lows: dict[int, float], length: int | None) -> None:
    rows = pd.DataFrame({"length": list(lows), "speedup_low": pd.Series(list(lows.values()), dtype=float)})
    assert crossover(rows) == length


def test_table_has_a_row_per_record(kernel_run: Run) -> None:
    table = kernel_table(kernel_run)
    assert list(table.columns) == COLUMNS
    records = speed_records()
    assert len(table) == len(records)
    key = ["stage", "shape", "length", "batch", "pattern", "implementation"]
    by_key = {tuple(record[name] for name in key): record for record in records}
    assert len(by_key) == len(records)
    for found in table.to_dict("records"):
        record = by_key[tuple(found[name] for name in key)]
        for name in ("status", "seconds", "flops_per_second", "bytes_per_second", "fraction_of_ideal", "speedup"):
            assert found[name] == record[name] or (pd.isna(found[name]) and record[name] is None)
    assert list(dict.fromkeys(table["stage"])) == ["forward", "forward+backward", "decode"]
    assert list(dict.fromkeys(table["shape"])) == ["llama2-7b", "llama2-70b"]


def test_markdown_says_it_all(kernel_run: Run) -> None:
    text = kernel_markdown(kernel_run, kernel_table(kernel_run))
    assert "copy bandwidth 2.9e+12 bytes per second" in text
    assert "21 comparisons passed, 2 failed, 1 were not measured." in text
    numerics = text[text.index("## Numerics") : text.index("## From which")]
    assert "| bfloat16 | 5.0e-01 " in numerics
    assert "| float16  | 8.8e-04 " in numerics
    assert "| float32  | 4.4e-05 " in numerics
    assert "- **wrong**: stride, grad key, bfloat16, 517 tokens, stride-16: error 5.0e-01, allowed 1e-02" in numerics
    assert "- **wrong**: stride, grad value, bfloat16, 517 tokens, stride-16: the result is not a number" in numerics
    assert "- not measured: float32: no time left (1)" in numerics
    assert "- unsupported: flash-attn: flash-attn is not installed (25)" in text
    assert "- failed: flex-64: OutOfMemoryError: out of memory (4)" in text
    assert "not a benchmark" not in text
    (line,) = [line for line in text.split("\n") if line.startswith("| 1024K ") and " sink " in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    (record,) = [r for r in speed_records() if (r["length"], r["pattern"]) == (2**20, "sink") and r["n"]]
    milliseconds, fraction = 1e3 * record["seconds"], 100 * record["fraction_of_ideal"]
    assert cells[4] == f"{milliseconds:.3f} ({milliseconds * 0.97:.3f}\u2013{milliseconds * 1.02:.3f})"
    assert cells[5:] == [
        f"{record['flops'] / record['seconds'] / 1e12:.0f}",
        f"{record['bytes'] / record['seconds'] / 1e9:.0f}",
        f"{fraction:.1f} %",
        "",
    ]


def test_crossovers_are_printed_for_every_model(tmp_path: Path) -> None:
    def change(record: Record) -> Record:
        ours = record["implementation"] == "longgen" and record["pattern"] == "stride-16"
        return record | {"speedup": 0.9} if ours and record["length"] <= 16384 else record

    run = changed(tmp_path, change)
    text = kernel_markdown(run, kernel_table(run))
    section = text[text.index("## From which length") : text.index("Not slower:")]
    found = {
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.split("\n") if "from" in line
    }
    stages, shapes = ("forward", "forward+backward", "decode"), ("llama2-7b", "llama2-70b")
    assert found == {
        (stage, shape, pattern, "from 32K on" if (pattern == "stride-16" and stage != "decode") else "from 4K on")
        for stage in stages
        for shape in shapes
        for pattern in ("sink", "stride-16")
    }


def test_numerics_alone_and_neither(tmp_path: Path) -> None:
    run = changed(tmp_path)
    (run.folder / "kernels/kernel-speed.json").unlink()
    alone = open_run("kernels-gpu", tmp_path)
    table = kernel_table(alone)
    assert table.empty
    text = kernel_markdown(alone, table)
    assert "## Targets\n\nNot measured." in text
    assert "21 comparisons passed" in text
    (run.folder / "kernels/kernel-checks.json").unlink()
    with pytest.raises(
        ArtifactError, match=r"kernel-speed\.json is missing: `python -m longgen.profiling.gpu --name k"
    ):
        kernel_table(open_run("kernels-gpu", tmp_path))


def test_times_alone(tmp_path: Path) -> None:
    (changed(tmp_path).folder / "kernels/kernel-checks.json").unlink()
    run = open_run("kernels-gpu", tmp_path)
    text = kernel_markdown(run, kernel_table(run))
    assert "Not measured: " in text[text.index("## Numerics") :]
    assert "kernel-checks.json is missing" in text


def test_attention_on_a_cpu_beside_its_ideal(kernel_run: Run) -> None:
    text = attention_speed_markdown(kernel_run)
    assert (
        f"{GPU}; {DAY}; batch 1, 1 thread(s); heads: query heads / KV heads x size of each. Medians of 3 rounds" in text
    )
    (line,) = [line for line in text.split("\n") if "| backward " in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "float32",
        "9/3x64",
        "32,768",
        "sink",
        "backward",
        "blocked",
        "13,000.0",
        "1,300.0",
        "10.00\u00d7 (9.50\u201310.50)",
        "16.00\u00d7",
        "62 %",
    ]
