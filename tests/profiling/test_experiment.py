"""The profiler: ratios within rounds, bytes equal to the planner's, every variant and length measured."""

import dataclasses

import pytest

from longgen.config import load_experiment
from longgen.profiling.experiment import profile_experiment, speed_records
from longgen.profiling.rounds import rounds_by_stage
from tests.experiments import experiment_file


def test_a_toy_profile_measures_everything_and_the_cache_is_as_planned(tmp_path):
    experiment = load_experiment(experiment_file(tmp_path))
    quick = dataclasses.replace(experiment.profiling, lengths=[256], training_lengths=[64], decode_tokens=2)
    changed = dataclasses.replace(experiment, profiling=quick)
    speed, memory, attention = profile_experiment(changed, ["full", "middle", "ends"])
    assert attention == {"sparse": "blocked", "full": "sdpa"}
    cells = {(r.stage, r.length, r.variant) for r in speed}
    assert cells == {
        (stage, length, variant)
        for stage, length in (("prefill", 256), ("decode", 256), ("training", 64))
        for variant in ("full", "middle", "ends")
    }
    for record in speed:
        assert 0 < record.seconds_low <= record.seconds <= record.seconds_high
        assert record.n == 3
        if record.variant == "full":
            assert record.speedup == record.speedup_low == record.speedup_high == 1.0
    by_variant = {r.variant: r for r in memory}
    assert all(r.kv_bytes == r.kv_bytes_planned for r in memory)
    # 2 of 6 layers full; the others hold 8 sink tokens and 3 past blocks of 8 of the 256 tokens
    assert by_variant["middle"].kv_fraction == pytest.approx((2 + 4 * 32 / 256) / 6)
    assert by_variant["full"].kv_fraction == 1.0


def test_speedups_are_medians_of_ratios_within_rounds():
    # the machine is three times slower in the second round: within rounds the ratio is 2 all the same
    times = {"full": [2.0, 6.0, 2.2], "hybrid": [1.0, 3.0, 1.1]}
    records = {r.variant: r for r in speed_records("prefill", 64, times, {})}
    assert records["hybrid"].speedup == 2.0
    assert (records["hybrid"].speedup_low, records["hybrid"].speedup_high) == (2.0, 2.0)
    assert records["hybrid"].seconds == 1.1
    assert records["full"].seconds == 2.2


def test_rounds_drop_the_warm_up_and_alternate_the_order():
    calls = []

    def measure(name: str) -> dict[str, float]:
        calls.append(name)
        return {"prefill": float(len(calls))}

    done = []
    times, _ = rounds_by_stage(["a", "b"], 2, measure, lambda: done.append(1))
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert times == {"prefill": {"a": [3.0, 6.0], "b": [4.0, 5.0]}}
    assert len(done) == 6
