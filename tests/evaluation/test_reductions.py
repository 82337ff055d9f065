"""KV reductions in the pipeline: who is asked what at which budget, and the gates of DuoAttention from rows to file."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longgen.config import DataSettings, load_experiment
from longgen.data.sources import SourceSettings
from longgen.data.synthetic.corpus import build_corpus
from longgen.data.synthetic.tokenizer import encode_bytes, save_byte_tokenizer
from longgen.data.synthetic.vocabulary import EOS_ID, VOCABULARY_SIZE
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.baselines import Gates, read_gates, save_gates
from longgen.evaluation.baselines.duo_attention import STREAMING
from longgen.files import write_json
from longgen.layout import make_layout
from longgen.model import Model
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.planner import experiment_shape
from longgen.results import load_result
from longgen.training.learn_gates import learn_gates, needle_row
from tests.commands import longgen
from tests.experiments import experiment_file, tiny_settings
from tests.modeling.models import tiny_base

TEXT = encode_bytes("Nothing happened that day, and nothing was said of it. " * 40)
SINK = SparsePattern(8, 1, 4)
LEARNED = Gates(((0.5, 1.0), (0.0, 0.25)), SINK, {"steps": 2})


@pytest.fixture
def experiment(tmp_path):
    settings = tiny_settings()
    settings["benchmarks"]["kv_reduction"] = {
        "methods": ["tova", "duo-attention"],
        "budgets_of": ["middle", "ends"],
        "duo_attention": {"steps": 2, "length": 192, "batch_size": 2, "learning_rate": 0.1, "pattern": "sink"},
    }
    return load_experiment(experiment_file(tmp_path, settings))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders corpus, full and middle: a model of bytes, and a hybrid of its shape."""
    folder = tmp_path_factory.mktemp("models")
    for number in range(40):
        (folder / f"{number:02}.txt").write_text(f"Day {number}. Nothing happened, and nothing was said of it. " * 3)
    build_corpus(DataSettings([SourceSettings("text", str(folder))], heldout_fraction=0.5), folder / "corpus")
    base = tiny_base(vocab_size=VOCABULARY_SIZE)
    for name, layers in (("full", "all"), ("middle", "1/3")):
        model = longgen_classes("llama")[1](longgen_config(base.config, make_layout(6, layers, "middle"), SINK))
        model.load_state_dict(base.state_dict())
        model.generation_config.eos_token_id = EOS_ID
        model.save_pretrained(folder / name)
        save_byte_tokenizer(folder / name)
    return folder


# ---------------------------------------------------------------- who is asked what
def test_every_method_answers_some_of_the_prompts_within_the_budget_of_the_hybrid(models, experiment, tmp_path):
    full, corpus, prompts, output = models / "full", models / "corpus", tmp_path / "prompts", tmp_path / "answers"
    asked = ["--task", "needle", "--task", "multikey", "--length", 192, "--length", 256]
    longgen("benchmark", "prepare", "recall", "--tokenizer", full, "--data-root", corpus, *asked, "--samples", 1,
            "--task-samples", "needle=3", "--depth", 0, "--depth", 1, "--output", prompts)  # fmt: skip
    learn_gates(experiment, full, tmp_path / "gates.json", corpus)
    methods = ["--kv-method", "tova", "--kv-method", "duo-attention", "--kv-gates", tmp_path / "gates.json"]
    some = ["--prompts", prompts, "--length", 256]
    budget = ["--kv-budget", models / "middle"]
    longgen("benchmark", "predict", full, *some, "--output", output, *methods, *budget, "--batch-tokens", 600)
    folders = [output / f"{method}-as-middle" for method in ("tova", "duo-attention")]
    assert sorted(output.iterdir()) == sorted(folders)
    result = tmp_path / "reduced" / "scores.json"
    answers = [word for folder in folders for word in ("--answers", folder)]
    longgen("benchmark", "score", *some, *answers, "--output", result.parent, "--run", "x", "--variant", "full")
    found = load_result(result)
    cells = {tuple(row[key] for key in ("method", "task", "length", "depth", "n")) for row in found.records}
    assert cells == {
        (method, task, 256, depth, n)
        for method in ("tova", "duo-attention")
        for task, n in (("multikey", 1), ("needle", 3))
        for depth in (0.0, 1.0)
    }
    hybrid = experiment.variant("middle").hybrid
    kept = Model(experiment_shape(experiment), hybrid).kv_cache_bytes(251)
    whole = Model(experiment_shape(experiment), experiment.variant("full").hybrid).kv_cache_bytes(251)
    for row in found.records:
        assert row["budget_of"] == "middle"
        assert 0.9 * kept / whole < row["kv_fraction"] <= kept / whole
    by_method = {each["kv_reduction"]["method"]: each["kv_reduction"] for each in found.settings["answers"]}
    assert by_method["duo-attention"]["learned"]["steps"] == 2
    assert "gates" not in by_method["tova"]
    assert {(each["task"], each["samples"]) for each in found.settings["prompts"]} == {("needle", 3), ("multikey", 1)}
    assert found.provenance["device"]["kind"] == "cpu"
    # what is there is not answered again, alone or in batches
    (shard,) = (output / "tova-as-middle" / "recall" / "needle-256").glob("shard*")
    before = shard.read_bytes()
    longgen("benchmark", "predict", full, *some, "--output", output, "--kv-method", "tova", *budget)
    assert shard.read_bytes() == before
    shard.unlink()
    longgen("benchmark", "predict", full, *some, "--output", output, "--kv-method", "tova", *budget)
    alone, together = (
        {each["id"]: each for each in map(json.loads, text.splitlines())} for text in (shard.read_bytes(), before)
    )
    assert alone == together
    assert all(len(each["prediction"].encode()) <= 5 or "\ufffd" in each["prediction"] for each in alone.values())
    with pytest.raises(ConfigError, match=r"--length is 4096: allowed is 192, 256"):
        longgen("benchmark", "predict", full, "--prompts", prompts, "--length", 4096, "--output", output)
    with pytest.raises(ConfigError, match=r"--task is 'fwe': allowed is "):
        longgen("benchmark", "predict", full, "--prompts", prompts, "--task", "fwe", "--output", output)


@pytest.mark.parametrize("words", [["--kv-method", "duo-attention"], ["--kv-method", "tova", "--kv-gates", "x.json"]])
def test_duo_attention_alone_has_gates(models, tmp_path, words):
    where = ["--prompts", tmp_path, "--output", tmp_path]
    with pytest.raises(ConfigError, match=r"--kv-gates is .*: allowed is a file of `longgen gates` with duo-attention"):
        longgen("benchmark", "predict", models / "full", *where, *words)


# ---------------------------------------------------------------- gates
def test_a_row_hides_needles_and_marks_what_predicts_their_answers():
    row, asked = needle_row(np.random.default_rng(5), TEXT, 512)
    assert (row.shape, row.dtype, asked.shape, asked.dtype) == ((512,), np.int64, (512,), bool)
    said = bytes(row.tolist()).decode()
    found = re.findall(r"The pass key of (\w+) is (\d{5})\.", said)
    keys = dict(found[: len(found) // 2])
    assert len(keys) == len(found) // 2 > 1, "several keys, each stated and asked for"
    assert dict(found[len(found) // 2 :]) == keys
    following = np.flatnonzero(asked) + 1
    assert bytes(row[following].tolist()).decode() == "".join(value for _, value in found[len(found) // 2 :])


def test_gates_are_learned_by_the_settings(models, experiment, tmp_path, monkeypatch):
    full, corpus, path = models / "full", models / "corpus", tmp_path / "gates.json"
    learn_gates(experiment, full, path, corpus)
    learned = read_gates(path, full)
    assert learned.pattern == experiment.patterns["sink"]
    assert learned.settings["learning_rate"] == 0.1
    assert np.array(learned.gates).shape == (6, 2)
    assert 0 < np.array(learned.gates).max() < 1, "two steps of 0.1 down from 1"
    learn_gates(experiment, full, path, corpus)
    assert learned == read_gates(path, full), "the same every time"
    given = {}

    def optimised(model, batches, pattern, rate):
        given.update(batches=list(batches), pattern=pattern, rate=rate)
        return LEARNED.gates

    monkeypatch.setattr("longgen.training.learn_gates.optimise_gates", optimised)
    object.__setattr__(experiment.benchmarks.kv_reduction.duo_attention, "pattern", None)
    learn_gates(experiment, full, path, corpus)
    assert (given["pattern"], given["rate"]) == (STREAMING, 0.1)
    assert [tokens.shape for tokens, _ in given["batches"]] == [(2, 192)] * 2
    assert len({tokens.numpy().tobytes() for batch, _ in given["batches"] for tokens in batch}) == 4
    # a model of language: pass keys in text
    object.__setattr__(experiment.benchmarks.kv_reduction.duo_attention, "length", 8192)
    learn_gates(experiment, full, path)
    said = bytes(given["batches"][0][0][0].tolist()).decode()
    assert said.count("pass key of the vault") == 20


def model_folder(folder, value=1.0):
    folder.mkdir()
    save_file({"weight": torch.full((2,), value)}, folder / "model.safetensors")
    return folder


def test_gates_come_back_from_their_file_for_the_same_weights_alone(tmp_path):
    path, model = tmp_path / "gates.json", model_folder(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"gates\.json is missing: `longgen gates CONFIG --model"):
        read_gates(path, model)
    save_gates(path, LEARNED, model, {"seed": 0})
    assert read_gates(path, model) == LEARNED
    with pytest.raises(
        ArtifactError, match=r"gates\.json has gates of the weights \w+: .*other has \w+, `longgen gates"
    ):
        read_gates(path, model_folder(tmp_path / "other", 2.0))
    for damaged in ({"gates": []}, [], {"model": "x", "pattern": {"block_size": 0}, "gates": []}):
        write_json(path, damaged)
        with pytest.raises(ArtifactError, match=r"gates\.json holds no gates \("):
            read_gates(path, model)
