"""A run that is killed again and again, at random moments, ends as one that was left alone: to the last bit."""

import json
import math
import random
import shutil
import signal

import pytest
from safetensors.torch import load_file

from longgen.config import load_experiment
from longgen.training.stages import StageFiles, train_base
from tests.experiments import experiment_file, prepare_base, tiny_settings
from tests.processes import calls_of, signalled, started

KILLS = 20
STEPS = 40


def files(folder, name: str) -> StageFiles:
    tokenizer = folder / "corpus" / "tokenizer"
    places = (folder / name, folder / f"{name}.json", folder / f"{name}-steps", folder / f"{name}-metrics")
    return StageFiles(folder / "rows", tokenizer, *places)


def run(config, name: str) -> None:
    train_base(load_experiment(config), files(config.parent, name))


def outcome(folder, name: str) -> tuple:
    """Weights, log and steps of the metrics, without what tells the time."""
    records = json.loads((folder / f"{name}.json").read_text())["records"]
    metrics = (folder / f"{name}-metrics" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in metrics]
    timed = ("seconds", "tokens_per_second")
    return (
        {key: value.numpy().tobytes() for key, value in load_file(folder / name / "model.safetensors").items()},
        [{key: value for key, value in record.items() if key not in timed} for record in records],
        [(line["step"], line["loss"], line["gradient_norm"]) for line in lines],
    )


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    settings = tiny_settings()
    phase = {"length": 64, "batch_size": 2, "learning_rate": 3e-3, "mixture": {"text": 0.5, "pairs": 0.5}}
    settings["base"] = {
        "phases": [phase | {"steps": STEPS - 20}, phase | {"steps": 20, "decay_steps": 20, "decay": "cosine"}],
        "optimizer": {"name": "muon"},
        "checkpoint_every": 5,
        "keep_checkpoints": 2,
    }
    config = experiment_file(tmp_path, settings)
    prepare_base(config)

    whole = calls_of(run, config, "alone")
    wanted = outcome(tmp_path, "alone")
    assert wanted[1][-1]["loss"] < 0.9 * wanted[1][0]["loss"]

    moments, kills, ends, during_save = random.Random(7), 0, 0, 0
    while kills < KILLS or not ends:
        # in the end it is left alone
        moment = moments.uniform(0.05, 0.6) * whole if kills < KILLS else math.inf
        process = started(signalled, moment, signal.SIGKILL, run, config, "killed")
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode:
            kills += 1
            during_save += any((tmp_path / "killed-steps").glob(".unfinished-*"))
        if process.exitcode and not (tmp_path / "killed.json").exists():
            continue
        # it came to its end, and was killed, if at all, after that: there is no result before
        ends += 1
        assert outcome(tmp_path, "killed") == wanted
        assert process.exitcode or not (tmp_path / "killed-steps").exists()
        (tmp_path / "killed.json").unlink()
        for name in ("killed", "killed-metrics", "killed-steps"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
    print(f"{kills} kills, {during_save} of them while a checkpoint was written, {ends} runs finished")
