"""`longgen plan train`: its numbers, its tables, its messages, and that it imports nothing heavy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.config import OptimizerSettings, PhaseSettings, SetupSettings, TrainingSettings, load_experiment
from longgen.errors import ConfigError
from longgen.gpus import GPUS
from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.model import Model
from longgen.pattern import SparsePattern
from longgen.planner import experiment_shape
from longgen.planner.job import Machine
from longgen.planner.training import plan_training
from longgen.shapes import model_shape
from tests.experiments import experiment_file, tiny_settings

FITS = "--model llama2-7b --full-layers 12 --gpus 8 --sequence-parallel 8"
DOES_NOT = "--model llama2-70b --gpus 8 --sequence-parallel 8"


def longgen(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", "train", *arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def rows(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in longgen(*arguments, "--json").splitlines()]


def test_defaults() -> None:
    (row,) = rows("--model", "llama2-7b")
    assert (row["length"], row["batch_size"], row["full_layers"], row["gpu"]) == (131072, 32, 11, "h100-80gb")
    assert row["setup"]["processes"] == 8
    assert row["setup"]["recompute"]
    assert row["setup"]["micro_batch_size"] == 1
    steps = -(-5_000_000_000 // (32 * 131072))
    assert row["days"] == pytest.approx(steps * row["step_seconds"] / 86400)


def test_every_option_reaches_the_plan() -> None:
    options = (
        "--model qwen3-8b --length 5120 --full-layers 1/4 --placement ends --pattern stride --block-size 32 --stride 4 "
        "--batch 16 --steps 7 --dtype float32 --optimizer muon --sequence-parallel 2 --micro-batch 2 --no-recompute "
        "--offload-parameters --gpus 8 --gpu a100-80gb --gpus-per-node 4 --network-gb 25 --efficiency 0.5"
    )
    (row,) = rows(*options.split())
    phase = PhaseSettings(5120, 16, steps=7, learning_rate=1e-5)
    training = TrainingSettings([phase], OptimizerSettings("muon"), packed="rows.yaml", dtype="float32")
    setup = SetupSettings(8, sequence_parallel=2, micro_batch_size=2, offload_parameters=True, device="cuda")
    layout, pattern = make_layout(36, 9, "ends"), SparsePattern(32, stride=4)
    machine = Machine(GPUS["a100-80gb"], 4, 25e9, 0.5)
    plan = plan_training(Model(model_shape("qwen3-8b"), Hybrid(layout, pattern)), 5120, 16, training, setup, 8, machine)
    assert row["memory"] == plan.memory
    assert row["host_memory"] == plan.host_memory != {}
    assert row["step_seconds"] == plan.step.total
    assert row["days"] == plan.days
    assert row["mfu"] == plan.mfu
    assert row["pattern"] == pattern.to_dict()


def test_offloaded_activations() -> None:
    (near,), (far,) = rows(*FITS.split()), rows(*FITS.split(), "--offload-activations")
    assert far["memory_bytes"] < near["memory_bytes"]
    assert far["step"]["offload"] > 0 == near["step"]["offload"]


def test_tables_of_what_fits() -> None:
    text = longgen(*FITS.split())
    assert "12/32 layers full" in text
    assert "predicted, not measured; 40% of the peak FLOP/s assumed" in text
    assert re.search(r"^ *weights +3\.1 *$", text, re.M)  # 6.74 G parameters in 4 bytes over 8
    assert re.search(r"^ *optimizer state +6\.3 *$", text, re.M)
    assert re.search(r"^ *there are on h100-80gb +79\.1 *$", text, re.M)
    assert re.search(r"^ *llama2-7b on 8 GPUs +8 +26\.1 +yes +32 +[0-9.]+ s ", text, re.M)
    assert "What would" not in text


def test_what_does_not_fit_is_printed_with_what_would() -> None:
    text = longgen(*DOES_NOT.split())
    assert "llama2-70b on 8 GPUs does not fit. What would: offload_parameters: true (" in text
    assert "processes: 32 (" in text
    (row,) = rows(*DOES_NOT.split())
    assert not row["fits"]
    assert len(row["remedies"]) == 2


def test_example_in_the_docs_is_what_is_printed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "planning-a-training-run.md").read_text(encoding="utf-8")
    example = text.split("```console\n")[1].split("```")[0].splitlines()
    printed = longgen(*example[0].removeprefix("$ longgen plan train ").split()).splitlines()
    assert [line.rstrip() for line in printed if line.strip()] == [line for line in example[1:] if line]


def test_check_says_by_its_exit_code_whether_it_fits() -> None:
    def code(options: str) -> int:
        return CliRunner().invoke(app, ["plan", "train", *options.split(), "--check"]).exit_code

    assert (code(FITS), code(DOES_NOT)) == (0, 2)


# ---------------------------------------------------------------- experiments
def with_setups(folder: Path) -> Path:
    settings = tiny_settings()
    settings["setups"] = {
        "here": {},
        "one": {"device": "cuda", "processes": 1},
        "open": {"device": "cuda", "sequence_parallel": 2},
    }
    settings["setup"] = "here"
    return experiment_file(folder, settings)


def test_experiment(tmp_path: Path) -> None:
    config = with_setups(tmp_path)
    experiment = load_experiment(config)
    found = {row["name"]: row for row in rows("--config", str(config), "--gpus", "4")}
    assert list(found) == ["one, full", "one, middle", "open, full", "open, middle"]
    assert found["one, full"]["setup"]["processes"] == 1
    assert found["open, full"]["setup"]["processes"] == 4
    variant, phase = experiment.variant("middle"), max(experiment.extension.phases, key=lambda phase: phase.length)
    model = Model(experiment_shape(experiment), variant.hybrid)
    asked = (phase.length, phase.batch_size, experiment.extension, experiment.setups["one"], 1)
    plan = plan_training(model, *asked)
    assert found["one, middle"]["memory"] == plan.memory
    assert found["one, middle"]["days"] == plan.days
    text = longgen("--config", str(config), "--setup", "one")
    assert "one, middle" in text
    assert "open, " not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "--model is missing: allowed are llama2-7b, "),
        ("--model llama2-7b --length 0", "--length is 0: allowed is a whole number >= 1"),
        ("--model llama2-7b --gpus 64", "batch_size is 32: allowed are multiples of 64"),
        ("--model llama2-7b --gpus 0", "--gpus is '0': allowed is a whole number >= 1 ("),
        ("--model llama2-7b --sequence-parallel 3", "--sequence-parallel is 3: allowed is a divisor of 8 processes"),
        ("--model llama2-7b --gpu v100", "--gpu is 'v100': allowed are h100-80gb, "),
        ("--model llama2-7b --dtype fp8", "--dtype is 'fp8': allowed are float32, bfloat16"),
        ("--model llama2-7b --optimizer sgd", "--optimizer is 'sgd': allowed are adamw, muon"),
        ("--model llama2-7b --no-recompute --offload-activations", "--offload-activations is True: allowed is false"),
        ("--model llama2-7b --setup one", "--setup is 'one': allowed is a name with --config only"),
        (
            "--config config/mini.yaml --batch 2 --no-recompute",
            "--batch, --recompute given with --config: allowed is one or",
        ),
        ("--config x.yaml", "x.yaml does not exist"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        longgen(*options.split())
    assert str(error.value).startswith(message)


def test_unknown_set_ups_are_refused(tmp_path: Path) -> None:
    config = with_setups(tmp_path)
    with pytest.raises(ConfigError, match="--setup is 'two': allowed are here, one, open"):
        longgen("--config", str(config), "--setup", "two")
    with pytest.raises(ConfigError, match="no set-up has device cuda"):
        longgen("--config", str(config), "--setup", "here")


def test_options_before_train_are_refused() -> None:
    result = CliRunner().invoke(app, ["plan", "--model", "llama2-7b", "train"])
    assert str(result.exception) == "--model given before train: allowed are options after it"


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from longgen.cli import main\n"
        f"sys.argv = ['longgen', 'plan', 'train', *{DOES_NOT.split()!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('imported', sorted({'torch', 'pandas', 'matplotlib', 'transformers'} & set(sys.modules)))\n"
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported []"
