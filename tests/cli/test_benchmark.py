"""`longgen benchmark`: from prompts to scores, with a real model."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from longgen.cli import app
from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.pattern import SparsePattern
from tests.experiments import experiment_file, tiny_settings
from tests.modeling.models import tiny_hybrid


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    model = tiny_hybrid("llama", "middle:1/3", SparsePattern(16, 1, 4))
    model.resize_token_embeddings(260)
    model.generation_config.do_sample = True  # as Llama-2's does: answers are greedy all the same
    model.generation_config.temperature = 0.6
    model.save_pretrained(folder / "model")
    save_byte_tokenizer(folder / "model")
    return folder


def run(*words, code: int = 0) -> str:
    outcome = CliRunner().invoke(app, ["benchmark", *map(str, words)])
    assert outcome.exit_code == code, outcome.output
    return outcome.output + str(outcome.exception or "")


def test_prompts_answers_scores(folder):
    prompts, answers, results = folder / "prompts", folder / "answers", folder / "results"
    asked = [
        "prepare",
        "needle",
        "--tokenizer",
        folder / "model",
        "--output",
        prompts,
        "--task",
        "keys",
        "--samples",
        2,
    ]
    printed = run(*asked, "--length", 400, "--length", 500)
    assert "20 prompts in 2 files, of stand-in data" in printed
    given = ["predict", folder / "model", "--prompts", prompts, "--output", answers, "--batch-tokens", 1500]
    assert "10 answers given now" in run(*given, "--shard", 0, "--shards", 2)
    scored = ["score", "--prompts", prompts, "--answers", answers, "--output", results, "--run", "x", "--variant", "v"]
    assert "5 of 10 prompts are not answered" in run(*scored, code=1)
    assert not results.exists()
    assert "10 answers given now" in run(*given)
    first = {path: path.read_text() for path in answers.rglob("shard-*")}
    assert "0 answers given now" in run(*given)
    assert {path: path.read_text() for path in answers.rglob("shard-*")} == first
    assert "no scores of the benchmarks" in run(*scored)
    written = json.loads((results / "scores.json").read_text())
    assert (written["kind"], written["run"], written["variant"]) == ("benchmark", "x", "v")
    assert len(written["records"]) == 10
    for record in written["records"]:
        assert (record["n"], record["score"], record["stand_in"]) == (2, 0.0, True)
        assert record["score_high"] > 0.5, "two wrong answers prove little"
    own = written["records"][0]["kv_fraction"]
    assert 0 < own < 1
    summary = json.loads((results / "summary.json").read_text())
    assert (summary["kind"], summary["variant"]) == ("benchmark-summary", "v")
    assert {(each["summary"], each["length"]) for each in summary["records"]} == {
        ("keys exact", 400),
        ("keys exact", 500),
        ("keys exact", None),
    }
    assert set(written["provenance"]["inputs"]) == {"needle/keys-400", "needle/keys-500"}


@pytest.mark.slow
def test_answers_do_not_depend_on_batches(folder):
    prompts = folder / "few"
    asked = ["--task", "fu", "--length", 420, "--samples", 3]
    run("prepare", "needle", "--tokenizer", folder / "model", "--output", prompts, *asked)
    texts = []
    for name, tokens in (("alone", 0), ("together", 4000)):
        run("predict", folder / "model", "--prompts", prompts, "--output", folder / name, "--batch-tokens", tokens)
        lines = [
            json.loads(line) for path in (folder / name).rglob("shard-*") for line in path.read_text().splitlines()
        ]
        texts.append({line["id"]: line["prediction"] for line in lines})
    assert texts[0] == texts[1]
    assert len(texts[0]) == 15


def test_a_reduced_cache_is_another_model(folder):
    full = folder / "full"
    model = tiny_hybrid("llama", "all", SparsePattern(16, 1, 4))
    model.resize_token_embeddings(260)
    model.save_pretrained(full)
    save_byte_tokenizer(full)
    prompts, answers = folder / "reduced-prompts", folder / "reduced"
    asked = ["--task", "keys", "--length", 400, "--samples", 1]
    run("prepare", "needle", "--tokenizer", full, "--output", prompts, *asked)
    given = ["predict", full, "--prompts", prompts, "--output", answers]
    assert "5 answers given now" in run(*given)
    assert "5 answers given now" in run(*given, "--kv-method", "snapkv", "--kv-budget", 0.2)
    assert "0 answers given now" in run(*given, "--kv-method", "snapkv", "--kv-budget", 0.2)
    assert "5 answers given now" in run(*given, "--kv-method", "snapkv", "--kv-budget", 0.4)
    assert "--kv-method is 'x': allowed are sink-window" in run(*given, "--kv-method", "x", code=1)
    assert kv_fractions(answers / "snapkv-as-0.2") != kv_fractions(answers / "snapkv-as-0.4")
    hybrid = ["predict", folder / "model", "--prompts", prompts, "--output", folder / "h", "--kv-method", "tova"]
    assert "full" in run(*hybrid, code=1)
    # as many bytes as the hybrid keeps, whatever the prompt's length
    as_hybrid = [*given, "--kv-method", "tova", "--kv-budget", folder / "model"]
    assert "5 answers given now" in run(*as_hybrid)
    kept = kv_fractions(answers / "tova-as-model")
    assert kv_fractions(folder / "h") == {}
    run("predict", folder / "model", "--prompts", prompts, "--output", folder / "h")
    own = kv_fractions(folder / "h")
    assert own.keys() == kept.keys()
    for sample, fraction in own.items():
        assert 0 < fraction - 0.01 < kept[sample] <= fraction < 1
    results = folder / "reduced-results"
    scored = ["score", "--prompts", prompts, "--answers", answers / "tova-as-model", "--output", results, "--run", "x"]
    run(*scored, "--variant", "full")
    for name in ("scores", "summary"):
        for record in json.loads((results / f"{name}.json").read_text())["records"]:
            assert (record["method"], record["budget_of"]) == ("tova", "model")
            assert record["kv_fraction"] == pytest.approx(np.mean(list(kept.values())), abs=0.01)
    assert "--kv-budget is 'x': allowed is a fraction or the folder" in run(
        *given, "--kv-method", "tova", "--kv-budget", "x", code=1
    )


@pytest.mark.slow
def test_gates_are_learned_on_pass_keys_and_used(folder, tmp_path):
    settings = tiny_settings()
    reduction = {"methods": ["duo-attention"], "budgets_of": ["middle"]}
    reduction["duo_attention"] = {"steps": 2, "length": 6000, "pattern": "sink", "learning_rate": 0.1}
    settings["benchmarks"] = {
        "suites": {"needle": {"samples": 1, "lengths": [400], "tasks": ["keys"], "depths": [0.5]}},
        "kv_reduction": reduction,
    }
    full, gates = tmp_path / "full", tmp_path / "gates.json"
    model = tiny_hybrid("llama", "all", SparsePattern(16, 1, 4))
    model.resize_token_embeddings(260)
    model.save_pretrained(full)
    save_byte_tokenizer(full)
    outcome = CliRunner().invoke(
        app, ["gates", str(experiment_file(tmp_path, settings)), "--model", str(full), "--output", str(gates)]
    )
    assert outcome.exit_code == 0, outcome.output
    written = json.loads(gates.read_text())
    assert [len(layer) for layer in written["gates"]] == [model.config.num_key_value_heads] * len(written["gates"])
    assert {0 < gate < 1 for layer in written["gates"] for gate in layer} == {True}, "two steps down from 1"
    prompts = tmp_path / "prompts"
    asked = ["--task", "keys", "--length", 400, "--samples", 1, "--depth", 0.5, "--index", tmp_path / "index.json"]
    run("prepare", "needle", "--tokenizer", full, "--output", prompts, *asked)
    given = ["predict", full, "--prompts", tmp_path / "index.json", "--output", tmp_path / "a"]
    given += ["--kv-method", "duo-attention", "--kv-budget", 0.9]
    assert "--kv-gates is None: allowed is a file of `longgen gates` with duo-attention" in run(*given, code=1)
    assert "1 answers given now" in run(*given, "--kv-gates", gates)
    (fraction,) = kv_fractions(tmp_path / "a").values()
    assert 0.5 < fraction <= 0.9
    other = tmp_path / "other"
    model.lm_head.weight.data += 1
    model.save_pretrained(other)
    save_byte_tokenizer(other)
    assert "has gates of the weights" in run("predict", other, *given[2:], "--kv-gates", gates, code=1)


def kv_fractions(answers) -> dict[str, float]:
    """Of the newest answers, by sample."""
    lines = [json.loads(line) for path in answers.rglob("shard-*") for line in path.read_text().splitlines()]
    return {line["id"]: line["kv_fraction"] for line in lines}


def newline_model(base, newline: int, second: int):
    """``base``, which now always likes a newline best, and ``second`` next."""

    class Head(torch.nn.Module):
        def forward(self, states):
            scores = torch.zeros(*states.shape[:-1], base.config.vocab_size)
            scores[..., newline], scores[..., second] = 2.0, 1.0
            return scores

    base.lm_head = Head()
    return base


@pytest.mark.parametrize("way", ["greedy", "reduced"])
def test_an_answer_ends_at_the_stop_which_is_not_its_first_token(way):
    from longgen.evaluation.runs.model import greedy
    from longgen.evaluation.runs.predict import PromptBatch
    from longgen.evaluation.runs.reduced import KvBudget, greedy_with_reduced_cache

    model = newline_model(tiny_hybrid("llama", "all", SparsePattern(16, 1, 4)), newline=10, second=65)
    generate = greedy(model) if way == "greedy" else greedy_with_reduced_cache(model, "snapkv", KvBudget.parse("0.9"))
    prompt = torch.arange(1, 41)[None]
    stopped = generate(PromptBatch(prompt, torch.ones_like(prompt), 6, 1, (10,)))
    assert stopped.tokens.tolist() == [[65, 10]]
    assert generate(PromptBatch(prompt, torch.ones_like(prompt), 3)).tokens.tolist() == [[10, 10, 10]]
    assert stopped.kv_fraction == pytest.approx(1.0 if way == "greedy" else 0.9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "nope", "--tokenizer", "x", "--output", "p"], "benchmark is 'nope'"),
        (["prepare", "needle", "--tokenizer", "/nowhere/x", "--output", "p"], "--tokenizer is '/nowhere/x'"),
        (["predict", "m", "--prompts", "/nowhere", "--output", "a"], "holds no prompts: `longgen benchmark prepare`"),
        (["predict", "m", "--prompts", "p", "--output", "a", "--dtype", "int8"], "--dtype is 'int8': allowed are bf"),
    ],
)
def test_bad_input(words, message):
    assert message in run(*words, code=1)
