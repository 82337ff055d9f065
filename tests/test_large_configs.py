"""The configurations of the paper's scale: they load, their set-ups fit, and their comments say what is planned."""

import re
from pathlib import Path

import pytest

from longgen.config import load_experiment
from longgen.data.packing.configuration import load_pack_settings
from longgen.gpus import GIB, GPUS
from longgen.model import Model, make_plan
from longgen.planner import experiment_shape
from longgen.planner.training import plan_training
from longgen.shapes import MODEL_SHAPES

ROOT = Path(__file__).parents[1]
NAMES = ("llama2-7b", "llama2-70b")


def planned(experiment, setup: str, variant: str):
    phase, chosen = experiment.extension.phases[0], experiment.setups[setup]
    hybrid = experiment.variant(variant).hybrid
    asked = (phase.length, phase.batch_size, experiment.extension, chosen, chosen.processes)
    return plan_training(Model(experiment_shape(experiment), hybrid), *asked)


@pytest.mark.parametrize("name", NAMES)
def test_set_ups_fit_and_their_comments_give_the_planned_numbers(name):
    path = ROOT / "config" / f"{name}.yaml"
    experiment = load_experiment(path)
    lines = path.read_text("utf-8").splitlines()
    assert set(experiment.setups) == {"8-gpus", "32-gpus", "64-gpus"}
    for setup in experiment.setups:
        for variant in experiment.default_variants:
            assert planned(experiment, setup, variant).fits(GPUS["h100-80gb"].memory)
        place = next(number for number, line in enumerate(lines) if line.startswith(f"  {setup}:"))
        comment = ""
        while lines[(place := place - 1)].startswith("  #"):
            comment = lines[place].strip(" #") + " " + comment
        plan = planned(experiment, setup, "longgen-sink")
        memory, step = re.match(r"([\d.]+) GiB.*?([\d.,]+) s a step", comment).groups()
        assert float(memory) == pytest.approx(plan.memory_bytes / GIB, abs=0.051)
        assert float(step.replace(",", "")) == pytest.approx(plan.step.total, rel=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_models_and_data_are_those_of_the_paper(name):
    experiment = load_experiment(ROOT / "config" / f"{name}.yaml")
    shape, wanted = experiment_shape(experiment), MODEL_SHAPES[name]
    assert (shape.parameters, shape.num_kv_heads, shape.head_dim) == (wanted.parameters, wanted.num_kv_heads, 128)
    packing = load_pack_settings(ROOT / experiment.extension.packed)
    (phase,) = experiment.extension.phases
    assert packing.lengths == [phase.length] == [131072]
    rows = packing.token_budget // phase.length
    assert rows - phase.batch_size < phase.steps * phase.batch_size <= rows
    assert phase.steps * phase.batch_size * phase.length == pytest.approx(5e9, rel=1e-3)
    reductions = {}
    for variant in ("longgen-sink", "longgen-stride"):
        hybrid = experiment.variant(variant).hybrid
        reductions[variant] = round(make_plan(Model(shape, hybrid), phase.length).kv_reduction, 3)
    if name == "llama2-7b":
        assert reductions["longgen-sink"] == 0.62
        assert reductions["longgen-stride"] == 0.61
