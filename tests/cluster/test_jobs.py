"""What the jobs of experiments ask for: by hand where that is possible, and what makes it more."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from longgen.cluster import REQUESTS, job_request, request_wildcards
from longgen.cluster.benchmarks import all_prompts
from longgen.cluster.request import JobRequest
from longgen.config import ClusterSettings, Experiment, SetupSettings, load_experiment
from longgen.errors import ConfigError
from longgen.gpus import GIB
from longgen.model import Model
from longgen.planner import experiment_shape
from longgen.strict import build
from longgen.workflow import selected_variants
from tests.experiments import tiny_settings
from tests.planned import planned_jobs

ROOT = Path(__file__).parents[2]
SMOKE, SEVEN, SEVENTY = (load_experiment(ROOT / f"config/{n}.yaml") for n in ("smoke", "llama2-7b", "llama2-70b"))


def request(rule: str, experiment: Experiment = SEVEN, setup: str | None = None, **wildcards: str) -> JobRequest:
    return job_request(rule, experiment, experiment.setup_named(setup), ["full", "longgen-sink"], wildcards)


def with_part(experiment: Experiment, part: str, **changes: Any) -> Experiment:
    return dataclasses.replace(experiment, **{part: dataclasses.replace(getattr(experiment, part), **changes)})


def test_every_rule_of_the_workflow_is_local_or_has_a_request() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "Snakefile", *(ROOT / "workflows/rules").glob("*.smk"))]
    rules = {name for text in texts for name in re.findall(r"^(?:rule|use rule \w+ as) (\w+)", text, re.MULTILINE)}
    listed = re.search(r"^localrules:\n((?: +\w+,\n)+)", (ROOT / "Snakefile").read_text("utf-8"), re.MULTILINE)
    assert listed and rules - set(re.findall(r"\w+", listed[1])) == REQUESTS.keys()
    requested = {name for text in texts for name in re.findall(r'\*\*job_resources\("(\w+)"\)', text)}
    assert requested == REQUESTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [SMOKE, SEVEN, SEVENTY], ids=lambda e: e.name)
def test_every_job_of_the_configurations_has_a_request(experiment) -> None:
    jobs = planned_jobs(f"config/{experiment.name}.yaml", "all")
    for rule, wildcards in {(job.rule, request_wildcards(job.wildcards)) for job in jobs if job.rule in REQUESTS}:
        found = request(rule, experiment, **dict(wildcards))
        assert found.seconds >= 60 and found.memory >= 3 * GIB and found.cpus >= 1
        assert (found.gpus > 0) == (found.gpu_memory > 0), rule


def test_extension_of_the_7b_on_a_node() -> None:
    found = request("extend", variant="full")
    assert (found.gpus, found.nodes, found.tasks, found.cpus) == (8, 1, 8, 8)
    shape, full = experiment_shape(SEVEN), SEVEN.variant("full")
    computing = 1192 * Model(shape, full.hybrid).training_flops(131072, 32, recompute=True) / (8 * 0.4 * 989.4e12)
    # weights and two moments of 4 bytes, 23 times while training and once when it goes on; 13 GB are read thrice
    checkpoint = 12 * shape.parameters / 500e6
    files = 2 * 60 + 3 * 2 * shape.parameters / 500e6
    assert found.seconds == pytest.approx(computing + 24 * checkpoint + files, rel=0.02)
    assert found.seconds > computing + 24 * checkpoint + files
    # 8 GiB for each process, and a file of 5 GB with its parts while the model is written
    assert found.memory == 8 * 8 * GIB + 10 * 10**9
    assert found.notice == pytest.approx(computing / 1192 + checkpoint, rel=0.02)


def test_nodes_share_gpus_and_memory() -> None:
    one, four, eight = (request("extend", setup=f"{count}-gpus", variant="full") for count in (8, 32, 64))
    assert [(each.nodes, each.tasks, each.gpus) for each in (four, eight)] == [(4, 32, 8), (8, 64, 8)]
    assert one.memory == four.memory == eight.memory
    assert one.seconds > 3 * four.seconds > 5 * eight.seconds
    assert request("extend", variant="longgen-sink").seconds < one.seconds


def test_offloading_is_main_memory_of_the_node() -> None:
    found = request("extend", SEVENTY, "8-gpus", variant="full")
    assert found.memory > 16 * experiment_shape(SEVENTY).parameters  # weights, gradients, two moments
    assert found.memory < 1.1 * 16 * experiment_shape(SEVENTY).parameters


def test_training_on_processors_needs_no_gpu_and_their_memory() -> None:
    base, extend = request("base", SMOKE), request("extend", SMOKE, variant="full")
    assert base.gpus == extend.gpus == 0
    assert (base.nodes, base.tasks, base.cpus) == (1, 1, 2)
    tiny = build(Experiment, tiny_settings(), "")
    both, apart = (
        job_request("extend", tiny, SetupSettings(processes=2, nodes=nodes), ["full"], {"variant": "full"})
        for nodes in (1, 2)
    )
    assert [(each.nodes, each.tasks, each.gpus) for each in (both, apart)] == [(1, 2, 0), (2, 2, 0)]
    exported = 2 * 4 * experiment_shape(tiny).parameters
    assert both.memory - exported == 2 * (apart.memory - exported) > 2 * 3 * GIB


def test_a_set_up_that_cannot_share_the_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 32: allowed are multiples of 3"):
        job_request("extend", SEVEN, SetupSettings(processes=3), ["full"], {"variant": "full"})


@pytest.mark.parametrize("rule", ["answer", "answer_reduced", "perplexity", "short_context", "gates"])
def test_benchmarks_take_one_gpu_and_longer_on_a_slower_one(rule) -> None:
    found = request(rule)
    assert (found.gpus, found.tasks, found.cpus) == (1, None, 8)
    slower = dataclasses.replace(SEVEN, cluster=ClusterSettings(gpu="a100-80gb", cpus_per_gpu=4))
    assert request(rule, slower).seconds > 1.3 * found.seconds
    assert request(rule, slower).cpus == 4
    less = dataclasses.replace(SEVEN, cluster=ClusterSettings(utilization=0.2))
    assert request(rule, less).seconds > 1.3 * found.seconds


def test_more_shards_are_shorter_jobs_and_more_samples_longer_ones() -> None:
    loading = 60 + 2 * experiment_shape(SEVEN).parameters / 500e6
    eight, sixteen = (request("answer", with_part(SEVEN, "benchmarks", shards=shards)).seconds for shards in (8, 16))
    assert (eight - loading) == pytest.approx(2 * (sixteen - loading))
    needle = {"needle": dataclasses.replace(SEVEN.benchmarks.suites["needle"], samples=20)}
    more = with_part(SEVEN, "benchmarks", suites=SEVEN.benchmarks.suites | needle)
    assert request("answer", more).seconds > eight
    assert request("answer", variant="longgen-sink").seconds < request("answer", variant="full").seconds
    assert request("prompts", more, suite="needle").seconds > request("prompts", suite="needle").seconds


def test_prompts_are_counted_by_length() -> None:
    # needle: 2 tasks, 11 depths, 10 samples; RULER: 13 tasks, BABILong: 5, of 100; LongBench: 34 sets
    assert all_prompts(SEVEN) == dict.fromkeys((4096, 8192, 16384, 32768, 65536, 131072), 220 + 1300 + 500) | {
        31500: 34 * 250
    }


def test_reductions_may_be_asked_some_suites_alone() -> None:
    reduction = dataclasses.replace(SEVEN.benchmarks.kv_reduction, suites=["needle"])
    fewer = dataclasses.replace(SEVEN, benchmarks=dataclasses.replace(SEVEN.benchmarks, kv_reduction=reduction))
    assert fewer.benchmarks.reduced_suites == ["needle"]
    assert SEVEN.benchmarks.reduced_suites == list(SEVEN.benchmarks.suites)
    wildcards = {"budget": "longgen-sink"}
    all_suites, needles = (request("answer_reduced", each, **wildcards).seconds for each in (SEVEN, fewer))
    assert needles < all_suites / 2
    few = dataclasses.replace(fewer.benchmarks.kv_reduction, tasks=["keys"], lengths=[4096])
    fewest = dataclasses.replace(SEVEN, benchmarks=dataclasses.replace(SEVEN.benchmarks, kv_reduction=few))
    loading = 60 + 2 * experiment_shape(SEVEN).parameters / 500e6
    assert request("answer_reduced", fewest, **wildcards).seconds - loading < (needles - loading) / 12


def test_packing_reads_all_that_it_is_told_to() -> None:
    found = request("pack")
    assert found.seconds == pytest.approx(60 + 40e9 / (16 * 2e5))
    assert (found.cpus, found.gpus) == (16, 0)


def test_evaluation_grows_with_its_samples() -> None:
    recall = dataclasses.replace(SMOKE.recall, task_samples={"needle": 200})
    more = with_part(SMOKE, "benchmarks", suites={"recall": recall})
    assert all_prompts(SMOKE) == dict.fromkeys(SMOKE.recall.lengths, 9 * (10 + 2 + 2))
    assert request("answer", more, variant="full").seconds > request("answer", SMOKE, variant="full").seconds
    slow = with_part(SMOKE, "profiling", repeats=50)
    assert request("profile", slow).seconds > 3 * request("profile", SMOKE).seconds
    assert request("profile", SMOKE).exclusive


@pytest.mark.parametrize("rule", ["answer", "gates", "answer_reduced", "perplexity", "profile"])
def test_what_evaluates_or_measures_on_a_gpu_asks_for_one(rule) -> None:
    part = "profiling" if rule == "profile" else "benchmarks"
    wildcards = {"answer_reduced": {"budget": "longgen-sink"}, "gates": {}, "profile": {}}.get(
        rule, {"variant": "longgen-sink"}
    )
    on_cpu = request(rule, SMOKE, **wildcards)
    on_gpu = request(rule, with_part(SMOKE, part, device="cuda", dtype="bfloat16"), **wildcards)
    assert (on_cpu.gpus, on_cpu.gpu_memory) == (0, 0)
    assert (on_gpu.gpus, on_gpu.cpus) == (1, 8)
    assert 0 < on_gpu.gpu_memory < on_cpu.memory
    assert on_gpu.resources(1, ClusterSettings())["gpu"] == 1
    assert on_gpu.exclusive == on_cpu.exclusive == (rule == "profile")
    in_float32 = request(rule, with_part(SMOKE, part, device="cuda"), **wildcards)
    assert in_float32.gpu_memory > on_gpu.gpu_memory


def test_prompts_of_a_batch_share_the_time_to_start_kernels() -> None:
    alone, together = (request("answer", with_part(SMOKE, "benchmarks", batch_tokens=size)) for size in (0, 16384))
    assert together.seconds < alone.seconds


@pytest.mark.parametrize(
    ("select", "chosen"),
    [
        ("default", ["full", "longgen-sink", "longgen-stride"]),
        ("all", list(SEVEN.variants)),
        ("all-sparse,full", ["full", "all-sparse"]),
    ],
)
def test_variants_are_selected_in_the_order_of_the_configuration(select, chosen) -> None:
    assert selected_variants(SEVEN, select) == chosen


@pytest.mark.parametrize("select", ["full,nonsense", "longgen-sink", ""])
def test_a_selection_without_the_full_model_or_with_an_unknown_one_is_refused(select) -> None:
    with pytest.raises(ConfigError, match="allowed are default, all, or names with full among them: full, longgen"):
        selected_variants(SEVEN, select)
