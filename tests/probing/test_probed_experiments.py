"""Variants whose full layers a probe of the base model chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from longgen.cluster import job_request
from longgen.config import load_experiment
from longgen.errors import ConfigError
from longgen.layout import make_layout
from longgen.planner import experiment_records
from longgen.reporting.run import open_run
from longgen.results import load_result
from tests.commands import longgen
from tests.experiments import experiment_file, tiny_settings
from tests.probing.models import save_probed_model, write_text
from tests.workflow.test_workflow import planned, snakemake, working_copy


def probed_settings(**changes: Any) -> dict[str, Any]:
    """Six layers, of which a probe chooses a third, as layers and as heads; the base model is of 1,024 tokens."""
    settings = tiny_settings()
    settings["base"]["phases"][0]["length"] = 1024
    settings["variants"]["chosen"] = {"full_layers": "1/3", "placement": "probed", "pattern": "sink"}
    settings["variants"]["heads"] = {"full_layers": "1/3", "placement": "probed-heads", "pattern": "sink"}
    settings["default_variants"] = ["full", "middle", "chosen", "heads"]
    settings["probe"] = {"length": 800, "prompts": 2, "facts": 1, "pattern": "sink", "full_layers": 2, "candidates": 2}
    return settings | changes


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Configuration, base model and both records."""
    folder = tmp_path_factory.mktemp("probed")
    model = save_probed_model(folder / "base", layers=6)
    settings = probed_settings()
    settings["model"] |= {"hidden_size": 64, "intermediate_size": 96}
    settings["probe"]["text"] = str(write_text(folder / "text"))
    config = experiment_file(folder, settings)
    for by in ("layers", "heads"):
        where = ("--output", folder / "results", "--layouts", folder / "layouts")
        longgen("probe", model, "--config", config, "--by", by, *where, "--threads", 1)
    return folder


def test_costs_of_probed_variants_are_those_of_as_many_full_layers(tmp_path):
    experiment = load_experiment(experiment_file(tmp_path, probed_settings()))
    chosen = experiment.variant("chosen")
    assert (chosen.placement, chosen.probed, chosen.layout.num_full) == ("probed", "probed:1/3", 2)
    assert experiment.variant("middle").probed is None
    assert experiment.probed_placements == ("probed", "probed-heads")
    costs: dict[str, list] = {}
    for record in experiment_records(experiment):
        costs.setdefault(record.variant, []).append((record.length, record.kv_bytes, record.prefill_flops))
    assert costs["chosen"] == costs["middle"] == costs["heads"] != costs["full"]


@pytest.mark.slow
def test_the_plan_has_the_layouts_of_the_records(place, tmp_path):
    config, records = place / "tiny.yaml", [place / f"results/tiny/probe{by}.json" for by in ("", "-heads")]
    output = tmp_path / "results/tiny/plan.json"
    said = longgen("plan", "--config", config, "--output", output, code=2)
    assert "layout is 'probed:1/3': allowed is that with --probe, the record of a probe by layers" in said
    said = longgen("plan", "--config", config, "--output", output, "--probe", records[0], code=2)
    assert "layout is 'probed-heads:1/3': allowed is that with --probe, the record of a probe by heads" in said
    assert not output.exists()
    assert "chosen" in longgen("plan", "--config", config)  # without layouts costs are all there is to say
    longgen("plan", "--config", config, "--output", output, "--probe", records[1], "--probe", records[0])
    variants = open_run("tiny", tmp_path / "results").plan.variants
    order = [int(unit) for unit in load_result(records[0]).settings["order"]]
    assert [layer for layer in range(6) if variants["chosen"].layout.full[layer]] == sorted(order[:2])
    heads = load_result(records[1]).settings["order"][:4]
    full = {f"{layer}.{head}" for layer in range(6) for head in range(2) if variants["heads"].layout.full[layer][head]}
    assert full == set(heads)
    assert variants["middle"].layout == make_layout(6, 2)


def test_a_variant_is_converted_by_its_record(place, tmp_path):
    config, record = place / "tiny.yaml", place / "results/tiny/probe.json"
    asked = ("convert", place / "base", tmp_path / "hybrid", "--config", config, "--variant")
    longgen(*asked, "chosen", "--probe", record)
    layout = json.loads((tmp_path / "hybrid/config.json").read_text())["longgen"]["layout"]
    order = [int(unit) for unit in load_result(record).settings["order"]]
    assert [layer for layer, kind in enumerate(layout) if kind == "full"] == sorted(order[:2])


def test_the_record_is_what_the_configuration_asks_for(place):
    settings = load_result(place / "results/tiny/probe.json").settings
    asked = {"length": 800, "prompts": 2, "facts": 1, "full_layers": 2, "text": "text"}
    assert {key: settings[key] for key in asked} == asked
    assert settings["pattern"]["local_blocks"] == 4
    assert (len(settings["candidates"]), load_result(place / "results/tiny/probe.json").run) == (2, "tiny")
    said = longgen("probe", place / "base", "--config", place / "tiny.yaml", "--length", 900, "--stride", 4, code=2)
    assert "--stride, --length given with --config" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": None}, "variants.chosen.placement is 'probed': allowed is one without a probe, or give a `probe`"),
        ({"probe": {"length": 2000}}, "probe.length is 2000: allowed is at most 1024, the length of the base model"),
        ({"probe": {"length": 800, "pattern": "wide"}}, "probe.pattern is 'wide': allowed is null, sink, stride"),
        ({"probe": {"length": 800, "full_layers": 7}}, "probe.full_layers is 7"),
        ({"probe": {"length": 800, "prompts": 1}}, "probe.prompts is 1: allowed is a whole number >= 2"),
        ({"probe": {"length": 800, "candidates": 0}}, "probe.candidates is 0"),
    ],
)
def test_configurations_that_cannot_be_probed_are_refused(tmp_path, change, message):
    with pytest.raises(ConfigError) as caught:
        load_experiment(experiment_file(tmp_path, probed_settings(**change)))
    assert message in str(caught.value)


def test_heads_of_a_staggered_pattern_are_refused(tmp_path):
    settings = probed_settings()
    settings["patterns"]["stride"]["staggered"] = True
    settings["variants"]["heads"]["pattern"] = "stride"
    with pytest.raises(
        ConfigError, match=r"variants\.heads\.pattern is 'stride': allowed is one that is not staggered"
    ):
        load_experiment(experiment_file(tmp_path, settings))


@pytest.mark.slow
def test_the_workflow_probes_before_it_plans_and_converts(tmp_path):
    folder = working_copy(tmp_path)
    experiment_file(folder, probed_settings())
    output = snakemake(folder, "--dry-run", "--printshellcmds", "--config", "experiment=tiny.yaml")
    jobs = planned(output)
    assert sorted(jobs["probe"]) == ["heads=", "heads=-heads"]
    lines = [line for line in output.splitlines() if "Shell command: longgen" in line or line.startswith("longgen ")]
    convert = {line.split("--variant ")[1].split()[0]: line for line in lines if " convert " in line}
    assert "--probe results/tiny/probe.json" in convert["chosen"]
    assert "--probe results/tiny/probe-heads.json" in convert["heads"]
    assert "--probe" not in convert["middle"] + convert["full"]
    (plan,) = (line for line in lines if " plan " in line)
    assert "--probe results/tiny/probe.json --probe results/tiny/probe-heads.json" in plan
    probes = sorted(line for line in lines if " probe " in line)
    assert ["--by heads" in line for line in probes] == [True, False]
    assert all("--output results --layouts artifacts/tiny/layouts" in line for line in probes)


def test_a_probe_asks_a_cluster_for_the_time_of_its_forward_passes(tmp_path):
    experiment = load_experiment(experiment_file(tmp_path, probed_settings()))
    jobs = {
        heads: job_request("probe", experiment, experiment.setups["default"], ["full"], {"heads": heads})
        for heads in ("", "-heads")
    }
    assert jobs[""].seconds < jobs["-heads"].seconds  # twice as many heads as layers are ranked
    assert jobs[""].gpus == 0
    settings = probed_settings()
    settings["probe"] |= {"prompts": 8}
    more = load_experiment(experiment_file(tmp_path, settings))
    assert job_request("probe", more, more.setups["default"], ["full"], {"heads": ""}).seconds > jobs[""].seconds


def test_a_probe_may_be_asked_for_without_variants_that_need_it(tmp_path):
    settings = probed_settings()
    for name in ("chosen", "heads"):
        del settings["variants"][name]
    settings["default_variants"] = ["full", "middle"]
    experiment = load_experiment(experiment_file(tmp_path, settings))
    assert experiment.probed_placements == ("probed",)
    del settings["probe"]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    assert load_experiment(tmp_path / "tiny.yaml").probed_placements == ()
