"""How busy the machine was: what is read of it, by which rule a record is disturbed, and who says so."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from longgen import busy
from longgen.busy import RULE, SIGN, WATCHED, Watch, is_disturbed, spread, warning
from longgen.cli import app
from longgen.profiling.inference_speed import InferenceSpeed
from longgen.profiling.training_speed import TrainingSpeed
from longgen.records.experiment import Busy
from tests.experiments import experiment_file
from tests.reporting import fake_inference, fake_training

QUIET = dict.fromkeys(WATCHED, 0.0)
HERTZ = os.sysconf("SC_CLK_TCK")


class Machine:
    """A machine of four processors, of which this process may use the first two; its clock is set by hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stat, self.now, self.own = folder / "stat", 100.0, 50.0
        self.busy, self.stolen = [0.0] * 4, [0.0] * 4
        self.load = 1.0
        monkeypatch.setattr(busy, "_STAT", self.stat)
        monkeypatch.setattr(busy.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(busy.os, "times", lambda: (self.own, 0.0, 0.0, 0.0, self.now))
        monkeypatch.setattr(busy.os, "sched_getaffinity", lambda _: {0, 1})
        monkeypatch.setattr(busy.os, "getloadavg", lambda: (self.load, 9.0, 9.0))
        self.write()

    def write(self) -> None:
        lines = ["cpu  9 9 9 9 9 9 9 9 0 0"]
        for number, (used, stolen) in enumerate(zip(self.busy, self.stolen, strict=True)):
            idle = self.now - used - stolen
            # user nice system idle iowait irq softirq steal guest
            counts = [used / 2, used / 4, used / 4, idle / 2, idle / 2, 0, 0, stolen, 7]
            lines.append(f"cpu{number} {' '.join(str(round(HERTZ * each)) for each in counts)}")
        self.stat.write_text("\n".join([*lines, "intr 5", "ctxt 6"]))

    def run(self, seconds: float, own: float, others: float, stolen: float = 0.0) -> dict:
        """What a watch tells of a block that took so long; ``others`` is on each of all four processors."""
        with Watch() as watch:
            self.now += seconds
            self.own += own
            self.busy = [used + others + own / 2 * (number < 2) for number, used in enumerate(self.busy)]
            self.stolen = [each + stolen for each in self.stolen]
            self.load = 3.0
            self.write()
        return watch.columns()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_what_others_used_of_our_processors_is_what_we_did_not(machine: Machine) -> None:
    found = machine.run(10, own=16, others=1, stolen=0.5)
    assert found["others"] == pytest.approx(2 / 20), "of two processors, for ten seconds; the other two do not matter"
    assert found["steal"] == pytest.approx(1 / 20)
    assert (found["load_before"], found["load_after"]) == (0.0, pytest.approx(3 - 1.6)), "less our own, at least 0"
    alone = machine.run(10, own=20, others=0)
    assert (alone["others"], alone["steal"]) == (0, 0)


def test_what_the_system_does_not_tell_is_missing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.run(0.4, own=0, others=0.4)["others"] is None, "too short to tell"
    machine.write = lambda: machine.stat.write_text("cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0")  # type: ignore[method-assign]
    assert machine.run(10, own=0, others=1)["others"] is None, "some containers count nothing"
    machine.stat.unlink()
    machine.write = lambda: None  # type: ignore[method-assign]
    found = machine.run(10, own=0, others=1)
    assert (found["others"], found["steal"]) == (None, None)
    monkeypatch.delattr(busy.os, "getloadavg")
    assert set(machine.run(10, own=0, others=1).values()) == {None}


def test_a_real_machine_tells_shares() -> None:
    with Watch() as watch:
        pass
    assert list(watch.columns()) == list(WATCHED)
    assert all(value is None or value >= 0 for value in watch.columns().values())


def test_the_spread_is_of_the_middle_half() -> None:
    assert spread([1, 2, 3, 4, 5]) == pytest.approx((4 - 2) / 3)
    assert spread([1, 1, 1, 1, 50]) == 0, "one outlier is what medians are for"
    assert spread([1.0, 2.0]) is None
    assert spread([-1.0, -2.0, -3.0]) is None, "what is composed may be below 0"


@pytest.mark.parametrize(
    ("others", "steal", "rounds", "expected"),
    [
        (0.10, 0.02, 0.20, False),  # at the edges
        (0.101, 0.0, 0.0, True),
        (0.0, 0.021, 0.0, True),
        (0.0, 0.0, 0.201, True),
        (None, None, 0.3, True),
        (None, None, 0.1, False),
        (float("nan"), None, float("nan"), None),  # not recorded
    ],
)
def test_the_rule(others: float | None, steal: float | None, rounds: float | None, expected: bool | None) -> None:
    assert is_disturbed(others, steal, rounds) is expected


def test_the_warning_counts_records_and_says_what_it_was() -> None:
    calm = Busy(**QUIET, spread=0.1)
    assert warning([calm, calm]) is None
    text = warning([calm, replace(calm, others=0.34), replace(calm, spread=0.5, speedup_spread=0.3)])
    assert text is not None
    assert text.startswith("2 of 3 measurements are disturbed")
    assert "other processes used 34% of the processors; rounds are spread over 50%" in text
    assert "stole" not in text


@pytest.fixture
def same_threads() -> Iterator[None]:
    """As many after the command, which sets them for itself, as before."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("same_threads")
@pytest.mark.parametrize("others", [0.0, 0.3])
def test_the_profile_of_an_experiment_records_it_and_warns(
    others: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy.Watch, "columns", lambda _: QUIET | {"others": others})
    monkeypatch.setattr(busy, "MOST_SPREAD", 1e9)
    output = tmp_path / "profile"
    found = CliRunner().invoke(app, ["profile", str(experiment_file(tmp_path)), "--output", str(output)])
    assert found.exit_code == 0, found.output
    records = json.loads((output / "speed.json").read_text())["records"]
    assert {record["others"] for record in records} == {others}
    assert all(record["spread"] >= 0 and record["speedup_spread"] >= 0 for record in records)
    assert (f"longgen: warning: {len(records)} of {len(records)} measurements are disturbed" in found.stderr) == (
        others > 0
    )


def test_tables_in_a_terminal_mark_times_and_speedups_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = {**QUIET, "spread": 0.0, "speedup_spread": 0.0}
    noisy_times, noisy_ratios, shared = {"spread": 0.9}, {"speedup_spread": 0.9}, {"others": 0.9}
    for stage, records in (
        (TrainingSpeed("cpu", trial=True), fake_training.fake_records()),
        (InferenceSpeed("cpu", trial=True), fake_inference.fake_records("slices")),
    ):
        monkeypatch.setenv("COLUMNS", "200")
        record = next(each for each in records if each.speedup)
        marks = {}
        for name, changes in (("none", {}), ("time", noisy_times), ("ratio", noisy_ratios), ("both", shared)):
            text = stage.table([replace(record, **calm | changes)])
            marks[name] = text.split("warning")[0].count(SIGN)
            assert (RULE in text) == (name != "none")
        assert marks == {"none": 0, "time": 1, "ratio": 1, "both": 2}
        time, ratio = (
            stage.table([replace(record, **calm | each)]).splitlines() for each in (noisy_times, noisy_ratios)
        )
        assert next(line.index(SIGN) for line in time if SIGN in line) < next(
            line.index(SIGN) for line in ratio if SIGN in line
        )


def test_what_is_composed_has_the_spread_of_the_composed_values() -> None:
    records = fake_training.fake_records()  # the second of three rounds is twice as slow, layers alike
    for record in records:
        assert record.spread == pytest.approx(0.5)
        assert record.speedup is None or record.speedup_spread == pytest.approx(0, abs=1e-9)
