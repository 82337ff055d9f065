"""`longgen benchmark`: from prompts to scores, with a real model."""

import json

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.data.tokenizer import save_byte_tokenizer
from longgen.pattern import SparsePattern
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
    prompts, answers, result = folder / "prompts", folder / "answers", folder / "result.json"
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
    scored = ["score", "--prompts", prompts, "--answers", answers, "--result", result, "--run", "x", "--variant", "v"]
    assert "5 of 10 prompts are not answered" in run(*scored, code=1)
    assert not result.exists()
    assert "10 answers given now" in run(*given)
    first = {path: path.read_text() for path in answers.rglob("shard-*")}
    assert "0 answers given now" in run(*given)
    assert {path: path.read_text() for path in answers.rglob("shard-*")} == first
    assert "no scores of the benchmarks" in run(*scored)
    written = json.loads(result.read_text())
    assert (written["kind"], written["run"], written["variant"]) == ("benchmark", "x", "v")
    assert len(written["records"]) == 10
    for record in written["records"]:
        assert (record["n"], record["score"], record["stand_in"]) == (2, 0.0, True)
        assert record["score_high"] > 0.5, "two wrong answers prove little"
    assert set(written["provenance"]["inputs"]) == {"needle/keys-400", "needle/keys-500"}


def test_answers_do_not_depend_on_batches(folder):
    prompts = folder / "few"
    asked = ["--task", "fu", "--length", 420, "--samples", 12]
    run("prepare", "needle", "--tokenizer", folder / "model", "--output", prompts, *asked)
    texts = []
    for name, tokens in (("alone", 0), ("together", 4000)):
        run("predict", folder / "model", "--prompts", prompts, "--output", folder / name, "--batch-tokens", tokens)
        lines = [
            json.loads(line) for path in (folder / name).rglob("shard-*") for line in path.read_text().splitlines()
        ]
        texts.append({line["id"]: line["prediction"] for line in lines})
    assert texts[0] == texts[1]
    assert len(texts[0]) == 60


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
    assert "5 answers given now" in run(*given, "--kv-method", "snapkv", "--kv-fraction", 0.2)
    assert "0 answers given now" in run(*given, "--kv-method", "snapkv", "--kv-fraction", 0.2)
    assert "5 answers given now" in run(*given, "--kv-method", "snapkv", "--kv-fraction", 0.4)
    assert "--kv-method is 'x': allowed is sink-window" in run(*given, "--kv-method", "x", code=1)
    hybrid = ["predict", folder / "model", "--prompts", prompts, "--output", folder / "h", "--kv-method", "tova"]
    assert "full" in run(*hybrid, code=1)


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
