"""`longgen plan cluster`: sums over jobs, storage by hand, and what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from longgen.cluster.costs import run_costs, run_storage
from longgen.config import load_experiment
from longgen.errors import ConfigError
from longgen.planner import experiment_shape
from tests.commands import longgen
from tests.experiments import experiment_file, tiny_settings
from tests.planned import planned_jobs

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "config/llama2-7b.yaml")
SEVEN = load_experiment(CONFIG)
VARIANTS = SEVEN.default_variants


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)  # as packings are named from there


@pytest.mark.slow
def test_hours_are_those_of_all_gpus_of_all_jobs() -> None:
    jobs = planned_jobs("config/llama2-7b.yaml")
    costs = {cost.rule: cost for cost in run_costs(SEVEN, SEVEN.setup_named("32-gpus"), VARIANTS, jobs)}
    extend = costs["extend"]
    assert (extend.jobs, extend.nodes, extend.gpus, extend.cpus) == (3, 4, 32, 256)
    assert extend.gpu_hours == pytest.approx(3 * 32 * extend.hours)
    assert extend.cpu_hours == pytest.approx(8 * extend.gpu_hours)
    assert (costs["answer"].jobs, costs["answer_reduced"].jobs) == (24, 64)
    assert costs["pack"].gpu_hours == 0 < costs["pack"].cpu_hours
    # the configuration says so too: 64 GiB of KV cache beside the weights
    assert extend.fits and not costs["answer"].fits and not costs["answer_reduced"].fits


@pytest.mark.slow
def test_what_is_stored() -> None:
    weights = experiment_shape(SEVEN).parameters
    stored = run_storage(SEVEN, SEVEN.setup_named(None), VARIANTS, planned_jobs("config/llama2-7b.yaml"))
    assert stored["packed rows"] == 2 * 38146 * 131072
    assert stored["models"] == 3 * 2 * weights
    # two are kept and a third is written: weights and two moments, for each of the three variants
    assert stored["checkpoints, until they are trained"] == pytest.approx(3 * 3 * 12 * weights, rel=1e-6)
    assert "generated rows" not in stored
    smoke = load_experiment(ROOT / "config/smoke.yaml")
    stored = run_storage(smoke, smoke.setup_named(None), ["full"], planned_jobs("config/smoke.yaml", "full"))
    assert stored["models"] == 2 * 4 * experiment_shape(smoke).parameters  # the base model, and in float32
    assert stored["generated rows"] == 4 * (2_560_000 + 696_320)
    assert "packed rows" not in stored
    assert stored["prompts"] == 4 * 126 * sum(smoke.recall.lengths)


@pytest.mark.slow
def test_json_has_the_totals_and_says_that_all_is_predicted() -> None:
    told = json.loads(longgen("plan", "cluster", "--config", CONFIG, "--setup", "64-gpus", "--select", "all", "--json"))
    assert told["predicted"] is True
    rules = {rule["rule"]: rule for rule in told["rules"]}
    assert rules["extend"]["jobs"] == len(SEVEN.variants)
    assert told["totals"]["jobs"] == sum(rule["jobs"] for rule in told["rules"])
    assert told["totals"]["gpu_hours"] == pytest.approx(sum(rule["gpu_hours"] for rule in told["rules"]))
    assert told["storage_bytes"]["models"] > 0


@pytest.mark.slow
def test_tables_say_that_all_is_predicted_and_what_does_not_fit() -> None:
    output = longgen("plan", "cluster", "--config", CONFIG)
    assert "predicted, not measured; h100-80gb, 40 % of its rates assumed" in output
    assert "set-up 8-gpus: full, longgen-sink, longgen-stride" in output
    assert "answer is predicted to need" in output and "more than h100-80gb has" in output
    assert "extend is predicted to need" not in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "cluster", "--config", CONFIG, "--setup", "x"], "--setup is 'x': allowed is 8-gpus, 32-gpus"),
        (["plan", "--gpu", "h200", "cluster", "--config", CONFIG], "--gpu given before cluster"),
    ],
)
def test_bad_input_is_named(words, message) -> None:
    with pytest.raises(ConfigError, match=message):
        longgen(*words)


def test_an_unknown_gpu_of_the_cluster_is_named(tmp_path) -> None:
    path = experiment_file(tmp_path, tiny_settings() | {"cluster": {"gpu": "b300"}})
    with pytest.raises(ConfigError, match=r"tiny\.yaml: cluster\.gpu is 'b300': allowed is h100-80gb, h200"):
        load_experiment(path)


@pytest.mark.slow
def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom longgen.cli import app\n"
        f"app({['plan', 'cluster', '--config', CONFIG]!r}, standalone_mode=False)\n"
        "print('imported', sorted({'torch', 'transformers', 'lm_eval', 'pandas', 'snakemake'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("imported []\n")


@pytest.mark.slow
def test_processors_of_a_configuration_and_of_this_machine(monkeypatch) -> None:
    monkeypatch.setattr("longgen.profiling.device.processor_rates", lambda: (8e10, 1e10))
    smoke = load_experiment(ROOT / "config/smoke.yaml")
    quick = replace(smoke, cluster=replace(smoke.cluster, cpu_flops=8e10, cpu_bandwidth=1e10))
    jobs = planned_jobs("config/smoke.yaml", "full")
    slow, fast = (run_costs(each, each.setup_named(None), ["full"], jobs) for each in (smoke, quick))
    before, after = (next(cost.hours for cost in costs if cost.rule == "extend") for costs in (slow, fast))
    assert after < before
    output = longgen(
        "plan", "cluster", "--config", str(ROOT / "config/smoke.yaml"), "--this-machine", "--json", "--select", "full"
    )
    rules = {rule["rule"]: rule for rule in json.loads(output)["rules"]}
    assert rules["extend"]["hours"] == pytest.approx(after)
    output = longgen("plan", "cluster", "--config", str(ROOT / "config/smoke.yaml"), "--this-machine")
    assert "predicted, not measured; 80.0 GFLOP/s and 10.0 GB/s assumed of a processor of this machine" in output
