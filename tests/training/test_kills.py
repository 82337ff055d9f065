"""A run that is killed again and again, at random moments, ends as one that was left alone: to the last bit."""

import json
import multiprocessing
import random
import shutil
import time

import torch
from safetensors.torch import load_file

from longgen.config import load_experiment
from longgen.data.corpus import build_corpus, load_corpus
from longgen.data.rows import build_rows
from longgen.training.stages import Files, train_base
from tests.experiments import experiment_file, tiny_settings

KILLS = 20
STEPS = 150


def files(folder, name: str) -> Files:
    tokenizer = folder / "corpus" / "tokenizer"
    places = (folder / name, folder / f"{name}.json", folder / f"{name}-steps", folder / f"{name}-metrics")
    return Files(folder / "rows", tokenizer, *places)


def run(config, name: str) -> None:
    torch.set_num_threads(1)
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


def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    settings = tiny_settings()
    phase = {"length": 64, "batch_size": 2, "learning_rate": 3e-3, "mixture": {"text": 0.5, "pairs": 0.5}}
    settings["base"] = {
        "phases": [phase | {"steps": STEPS - 35}, phase | {"steps": 35, "decay_steps": 35, "decay": "cosine"}],
        "checkpoint_every": 10,
        "keep_checkpoints": 2,
    }
    config = experiment_file(tmp_path, settings)
    experiment = load_experiment(config)
    build_corpus(experiment.data, tmp_path / "corpus")
    text = load_corpus(tmp_path / "corpus")
    build_rows(experiment.base, text.train, text.fingerprint, experiment.seed, "base", tmp_path / "rows")

    # its processes start from one that has imported everything: what is killed is training, not importing
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_kills"])

    def started(name: str):
        process = context.Process(target=run, args=(config, name))
        process.start()
        return process

    started("warm").join()
    shutil.rmtree(tmp_path / "warm")
    begun = time.monotonic()
    alone = started("alone")
    alone.join()
    assert alone.exitcode == 0
    whole = time.monotonic() - begun
    wanted = outcome(tmp_path, "alone")

    moments, kills, finished, during_save = random.Random(7), 0, 0, 0
    while kills < KILLS or not finished:
        process = started("killed")
        # in the end it is left alone
        process.join(moments.uniform(0.05, 0.6) * whole if kills < KILLS else None)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            during_save += any((tmp_path / "killed-steps").glob(".unfinished-*"))
            assert not (tmp_path / "killed.json").exists(), "no result before the end"
            continue
        assert process.exitcode == 0
        finished += 1
        assert outcome(tmp_path, "killed") == wanted
        assert not (tmp_path / "killed-steps").exists()
        shutil.rmtree(tmp_path / "killed")
        (tmp_path / "killed.json").unlink()
        shutil.rmtree(tmp_path / "killed-metrics")
    print(f"{kills} kills, {during_save} of them while a checkpoint was written, {finished} runs finished")
