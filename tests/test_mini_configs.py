"""The mini experiment's configuration, and its copy at toy size: what they have in common, and what fits where."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from longgen.cluster import REQUESTS, job_request
from longgen.cluster.assumptions import START_SECONDS
from longgen.config import load_experiment
from longgen.workflow import selected_variants
from tests.planned import planned_jobs

CONFIG = Path(__file__).parents[1] / "config"
MINI, DRY, CPU = (load_experiment(CONFIG / f"{name}.yaml") for name in ("mini", "mini-dry", "mini-cpu"))


@pytest.mark.parametrize("experiment", [MINI, DRY], ids=lambda experiment: experiment.name)
def test_the_context_grows_32_times_and_ratios_are_whole_layers(experiment):
    assert experiment.extension.max_length == 32 * experiment.base_length
    assert max(experiment.recall.lengths) == 2 * experiment.extension.max_length
    layers = {name: experiment.variant(name).layout for name in experiment.variants}
    assert {name: layout.num_full for name, layout in layers.items() if name.startswith("middle")} == {
        "middle-1-12": 1,
        "middle-1-6": 2,
        "middle-1-4": 3,
        "middle-1-2": 6,
    }
    assert layers["longgen-sink"].num_full == 4
    assert layers["longgen-sink"].kinds()[: experiment.base.early_exit_layers].count("full") == 4
    assert experiment.variant("longgen-staggered").pattern.staggered


@pytest.mark.parametrize("experiment", [DRY, CPU], ids=lambda experiment: experiment.name)
def test_at_other_sizes_layers_variants_and_what_is_measured_are_the_same(experiment):
    assert experiment.model.num_hidden_layers == MINI.model.num_hidden_layers
    assert experiment.base.early_exit_layers == MINI.base.early_exit_layers
    assert experiment.model.residual_initializer_range == MINI.model.residual_initializer_range == 0
    assert (experiment.variants, experiment.default_variants) == (MINI.variants, MINI.default_variants)
    assert experiment.recall.tasks == MINI.recall.tasks
    assert experiment.benchmarks.kv_reduction.methods == MINI.benchmarks.kv_reduction.methods


def test_on_two_cores_depths_and_lengths_are_as_many():
    assert CPU.base.phases[0].mixture == MINI.base.phases[0].mixture
    assert CPU.recall.depths == MINI.recall.depths
    assert max(CPU.recall.lengths) == 2 * CPU.extension.max_length
    assert {setup.device for setup in CPU.setups.values()} == {CPU.benchmarks.device, CPU.profiling.device} == {"cpu"}


@pytest.mark.parametrize("name", ["mini", "mini-cpu"])
def test_seeds_differ_in_name_and_seed_alone(name):
    first = load_experiment(CONFIG / f"{name}.yaml")
    for seed in (1, 2):
        other = load_experiment(CONFIG / f"{name}-seed-{seed}.yaml")
        assert (other.name, other.seed) == (f"{name}-seed-{seed}", seed)
        assert replace(other, name=name, seed=first.seed) == first


@pytest.mark.slow
def test_the_dry_run_has_the_same_jobs():
    kinds = [{kind for phase in stage.phases for kind in phase.mixture} for stage in (MINI.extension, DRY.extension)]
    assert kinds[0] == kinds[1]
    jobs = [[job.name for job in planned_jobs(f"config/{each.name}.yaml", "all")] for each in (MINI, DRY)]
    assert jobs[0] == jobs[1]


@pytest.mark.slow
def test_the_comment_says_what_is_predicted():
    text = " ".join((CONFIG / "mini.yaml").read_text("utf-8").replace("\n#", " ").split())
    said = re.search(r"predicted to take (\d+) minutes, .* and all variants (\d+):", text)
    setup = MINI.setup_named(None)
    for select, minutes in zip(("default", "all"), said.groups(), strict=True):
        variants = selected_variants(MINI, select)
        jobs = [job for job in planned_jobs("config/mini.yaml", select) if job.rule in REQUESTS]
        seconds = sum(
            job_request(job.rule, MINI, setup, variants, job.wildcards).seconds - START_SECONDS for job in jobs
        )
        assert float(minutes) == pytest.approx(seconds / 60, abs=0.5)
