"""Benchmark runs: prompts made once, answers in shards that survive a kill, scores with intervals."""

import json
import math
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.benchmarks import benchmark, check_tasks
from longgen.evaluation.runs.predict import GreedyAnswers, answers_folder, predict, read_answers
from longgen.evaluation.runs.prompts import PromptFile, PromptSource, write_prompts
from longgen.evaluation.runs.scoring import score_answers, score_records

MODEL = {"weights": "one"}
SPECIAL = [("<s>", BOS_ID), ("</s>", EOS_ID)]


def made(folder, tokenizer, **changes) -> PromptFile:
    task, length = changes.pop("task", "keys"), changes.pop("length", 700)
    asked = {"count": 2, "tokenizer_fingerprint": "bytes", "seed": 0, "data_root": None} | changes
    source = PromptSource(benchmark("needle"), tokenizer=tokenizer, folder=folder / "prompts", **asked)
    return write_prompts(source, task, length)


def scores(prompts: PromptFile, folder: Path) -> list[dict]:
    return score_records(benchmark("needle"), score_answers(benchmark("needle"), [prompts], folder))


def reader(tokenizer, log: Path | None = None, killed_after: float = math.inf):
    """Answers as a perfect model would: it finds the key in the prompt. Writes to ``log`` what it is asked.

    It is killed, and its process with it, when it is asked for more than ``killed_after`` answers.
    """
    asked = 0

    def generate(batch):
        nonlocal asked
        rows, new_tokens = [], batch.max_new_tokens
        for row, real in zip(batch.tokens, batch.mask, strict=True):
            assert real.tolist() == sorted(real.tolist()), "padding stands left"
            text = tokenizer.decode(row[real.bool()])
            place = text.rsplit("The pass key of ", 1)[1].removesuffix(" is")
            key = text.split(f"The pass key of {place} is ", 1)[1].split(".")[0]
            rows.append(tokenizer.encode(f" {key}.".ljust(new_tokens), add_special_tokens=False)[:new_tokens])
            if log is not None:
                with log.open("a") as file:
                    file.write(place + "\n")
            asked += 1
            if asked > killed_after:
                os.kill(os.getpid(), signal.SIGKILL)
        return GreedyAnswers(torch.tensor(rows), 0.25)

    return generate


def test_prompts_are_made_once_and_anew_when_what_they_are_made_from_changes(tmp_path, tokenizer):
    first = made(tmp_path, tokenizer)
    assert first.samples == len(list(first)) == 10
    assert first.stand_in
    written = first.path.stat().st_mtime_ns
    assert made(tmp_path, tokenizer) == first
    assert first.path.stat().st_mtime_ns == written
    assert made(tmp_path, tokenizer, seed=1).fingerprint != first.fingerprint
    assert made(tmp_path, tokenizer).fingerprint == first.fingerprint
    damaged = first.path.read_text().splitlines()
    first.path.write_text("\n".join([damaged[0], damaged[1][:50], *damaged[2:]]))
    with pytest.raises(ArtifactError, match=r"keys-700.jsonl:2 is no sample .*: `longgen benchmark prepare`"):
        list(PromptFile.open(first.path))


@pytest.mark.parametrize("batch_tokens", [0, 3000])
def test_answers_and_scores(tmp_path, tokenizer, batch_tokens):
    prompts = made(tmp_path, tokenizer)
    for shard in range(3):
        predict(prompts, tokenizer, reader(tokenizer), MODEL, tmp_path / "a", shard, 3, batch_tokens)
    counts = [len(path.read_text().splitlines()) for path in sorted((tmp_path / "a").rglob("shard-*"))]
    assert counts == [4, 3, 3]
    records = scores(prompts, tmp_path / "a")
    assert [record["depth"] for record in records] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for record in records:
        assert (record["score"], record["n"], record["metric"], record["stand_in"]) == (1.0, 2, "exact", True)
        assert (record["benchmark"], record["task"], record["length"]) == ("needle", "keys", 700)


@pytest.mark.parametrize("batch_tokens", [0, 6000])
def test_a_model_reads_bos_the_text_and_nothing_after_it(tmp_path, tokenizer, batch_tokens):
    prompts, read = made(tmp_path, tokenizer, count=1), []
    spelled = {sample.id: sample.prompt.replace("The pass key", "</s>The pass key") for sample in prompts}
    lines = [json.loads(line) for line in prompts.path.read_text().splitlines()]
    changed = [json.dumps(line | {"prompt": spelled[line["id"]]}) + "\n" for line in lines]
    prompts.path.write_text("".join(changed))
    appends = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    appends.backend_tokenizer.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=SPECIAL)

    def generate(batch):
        read.extend(row[real.bool()].tolist() for row, real in zip(batch.tokens, batch.mask, strict=True))
        return GreedyAnswers(torch.full((len(batch.tokens), 3), 65))

    predict(prompts, appends, generate, MODEL, tmp_path / "a", batch_tokens=batch_tokens)
    assert sorted(read) == sorted([BOS_ID, *text.encode()] for text in spelled.values())


@pytest.mark.parametrize("task", ["fu", "keys"])
def test_special_tokens_that_a_published_prompt_spells_are_meant(tmp_path, task):
    """Fu et al.'s code writes BOS into its text, and its tokenizer reads it as BOS."""
    save_byte_tokenizer(tmp_path)
    begins = AutoTokenizer.from_pretrained(tmp_path)
    begins.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=SPECIAL[:1])
    prompts, read = made(tmp_path, begins, task=task, count=1), []

    def generate(batch):
        read.extend(row[real.bool()].tolist() for row, real in zip(batch.tokens, batch.mask, strict=True))
        return GreedyAnswers(torch.full((len(batch.tokens), 3), 65))

    predict(prompts, begins, generate, MODEL, tmp_path / "a")
    assert sorted(read) == sorted(begins(sample.prompt).input_ids for sample in prompts)
    assert {row.count(BOS_ID) for row in read} == {4 if task == "fu" else 1}


def test_only_what_is_missing_or_changed_is_answered_again(tmp_path, tokenizer):
    prompts, log = made(tmp_path, tokenizer), tmp_path / "log"
    generate = reader(tokenizer, log)
    assert predict(prompts, tokenizer, generate, MODEL, tmp_path / "a") == 10
    assert predict(prompts, tokenizer, generate, MODEL, tmp_path / "a") == 0
    # one prompt changes: one answer is given anew
    lines = prompts.path.read_text().splitlines()
    changed = json.loads(lines[3])
    lines[3] = json.dumps(changed | {"prompt": "Yes. " + changed["prompt"]})
    prompts.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ArtifactError, match="1 of 10 prompts are not answered"):
        scores(prompts, tmp_path / "a")
    assert predict(prompts, tokenizer, generate, MODEL, tmp_path / "a") == 1
    assert len(scores(prompts, tmp_path / "a")) == 5
    # another model answers all, and the first one's answers are not taken for its
    other = {"weights": "other"}
    assert predict(prompts, tokenizer, generate, other, tmp_path / "a", 0, 2) == 5
    assert len(read_answers(answers_folder(tmp_path / "a", prompts))) == 5
    # other lengths have other files
    longer = made(tmp_path, tokenizer, length=900)
    assert predict(longer, tokenizer, generate, other, tmp_path / "a") == 10
    assert len(log.read_text().splitlines()) == 26


def test_shards_of_another_number_go_on_with_what_is_there(tmp_path, tokenizer):
    prompts = made(tmp_path, tokenizer)
    predict(prompts, tokenizer, reader(tokenizer), MODEL, tmp_path / "a", 0, 2)
    left = [predict(prompts, tokenizer, reader(tokenizer), MODEL, tmp_path / "a", shard, 5) for shard in range(5)]
    assert sum(left) == 5


def _predict_and_die(folder: Path, tokenizer_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    prompts = PromptFile.open(folder / "prompts" / "needle" / "keys-700.jsonl")
    predict(prompts, tokenizer, reader(tokenizer, folder / "log", killed_after=3), MODEL, folder / "a")


def test_a_kill_loses_one_sample_at_most(tmp_path, tokenizer):
    prompts = made(tmp_path, tokenizer, count=8)
    save_byte_tokenizer(tmp_path / "tokenizer")
    folder = answers_folder(tmp_path / "a", prompts)
    context = multiprocessing.get_context("fork")
    for kills in range(4):
        process = context.Process(target=_predict_and_die, args=(tmp_path, tmp_path / "tokenizer"))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(read_answers(folder)) == 3 * (kills + 1)
    (shard,) = folder.glob("shard-*")
    with shard.open("ab") as file:  # as a kill in the middle of writing leaves it
        file.write(b'{"id": "0-')
    predict(prompts, tokenizer, reader(tokenizer, tmp_path / "log"), MODEL, tmp_path / "a")
    assert len(read_answers(folder)) == 40
    assert all(json.loads(line) for line in shard.read_text().splitlines())
    assert len((tmp_path / "log").read_text().splitlines()) == 44


def test_two_processes_never_write_one_shard(tmp_path, tokenizer):
    prompts = made(tmp_path, tokenizer)
    refused = []

    def generate(batch):
        if not refused:
            with pytest.raises(ArtifactError, match="being written by another process") as caught:
                predict(prompts, tokenizer, generate, MODEL, tmp_path / "a")
            refused.append(caught)
        return reader(tokenizer)(batch)

    predict(prompts, tokenizer, generate, MODEL, tmp_path / "a")
    assert len(refused) == 1
    assert len(read_answers(answers_folder(tmp_path / "a", prompts))) == 10


def test_bad_input(tmp_path, tokenizer):
    prompts = made(tmp_path, tokenizer)
    with pytest.raises(ConfigError, match=r"shard is 3: allowed is 0\.\.2"):
        predict(prompts, tokenizer, reader(tokenizer), MODEL, tmp_path / "a", 3, 3)
    with pytest.raises(ConfigError, match="benchmark is 'nope': allowed are recall, needle, ruler"):
        benchmark("nope")
    with pytest.raises(ConfigError, match="task is 'x': allowed with needle are fu, keys"):
        check_tasks(benchmark("needle"), ["x"])
    with pytest.raises(ArtifactError, match="10 of 10 prompts are not answered"):
        scores(prompts, tmp_path / "none")
    assert replace(prompts, samples=1).samples == 1
