"""Prompts, exact match and perplexity, against models whose answers are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from longgen.config import EvaluationSettings
from longgen.data.synthetic.tokenizer import decode_bytes, encode_bytes
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.evaluation.perplexity import evaluate_perplexity
from longgen.evaluation.retrieval import ask, evaluate_retrieval, greedy_answers
from longgen.evaluation.tasks import TASKS, Sample, Task
from longgen.statistics import bootstrap_interval, wilson_interval

TEXT = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))
SETTINGS = EvaluationSettings(
    lengths=[256, 512], depths=[0.0, 0.5, 1.0], samples_per_cell=3, tasks=list(TASKS), task_samples=2,
    perplexity_documents=4, perplexity_bins=4, batch_size=2,
)  # fmt: skip


class Oracle:
    """Answers by looking for the value in the prompt, within the last ``window`` tokens; otherwise with zeros."""

    device = torch.device("cpu")
    generation_config = GenerationConfig(do_sample=True)

    def __init__(self, window: int) -> None:
        self.window = window

    def generate(self, prompts, max_new_tokens, **options):
        assert not self.generation_config.do_sample
        rows = []
        for prompt in prompts:
            seen = decode_bytes(prompt[-self.window :].numpy())
            question = seen[seen.rindex("The") :]
            found = seen.find(question)
            value = seen[found + len(question) :][:5] if found < len(seen) - len(question) else "00000"
            rows.append(torch.cat([prompt, torch.tensor(list(value.encode()))]))
        return torch.stack(rows)


def test_scores_are_those_of_a_model_whose_answers_are_known():
    settings = SimpleNamespace(**vars(SETTINGS) | {"tasks": ["needle", "multikey"]})
    records = evaluate_retrieval(Oracle(10**6), TEXT, settings, 0, "oracle")
    assert {r["exact"] for r in records} == {r["share"] for r in records} == {1.0}
    assert len(records) == 2 * 2 * 3
    assert {(r["task"], r["n"]) for r in records} == {("needle", 3), ("multikey", 2)}
    records = evaluate_retrieval(Oracle(120), TEXT, settings, 0, "short-sighted")
    by_depth = {(r["depth"], r["exact"]) for r in records if r["task"] == "needle"}
    assert by_depth == {(0.0, 0.0), (0.5, 0.0), (1.0, 1.0)}
    assert records[0]["exact_low"] == 0.0 < records[0]["exact_high"] < 1.0
    assert records[0]["share_high"] == records[0]["exact_high"], "of one part: the interval of right or wrong"
    assert [r["outcomes"] for r in records if r["task"] == "needle"] == ["000", "000", "111"] * 2


def test_what_every_answer_gave_is_written_down_in_order():
    """Of all batches, the first sample first: what seeds are compared by, sample by sample."""
    right = iter([True, False, True, True, False])

    def answers(samples):
        return np.stack([sample.answer if next(right) else sample.answer + 1 for sample in samples])

    settings = SimpleNamespace(**vars(SETTINGS) | {"tasks": ["needle"], "depths": [0.5], "batch_size": 2})
    (record,) = ask(answers, TEXT, settings, {"needle": 5}, [256], 0, "answers")
    assert (record["outcomes"], record["parts"], record["exact"], record["n"]) == ("10110", 1, 0.6, 5)


class Fixed:
    """Says what it was told to, a list of texts of one length."""

    device = torch.device("cpu")
    generation_config = GenerationConfig()

    def __init__(self, said):
        self.said = torch.tensor([list(text.encode()) for text in said])

    def generate(self, prompts, max_new_tokens, min_new_tokens, **options):
        assert max_new_tokens == min_new_tokens == self.said.shape[1]
        return torch.cat([prompts, self.said[: len(prompts)]], dim=1)


def test_answers_are_what_follows_the_prompt():
    samples = [Sample(np.array([9, 9], np.uint16), encode_bytes("123"))] * 2
    assert greedy_answers(Fixed(["123", "124"]), samples).tolist() == [[49, 50, 51], [49, 50, 52]]


def test_an_answer_of_several_parts_scores_its_share(monkeypatch):
    """One right, one with a wrong digit, one in another order."""
    sample = Sample(encode_bytes("?"), encode_bytes("11 22 33 44"))
    monkeypatch.setitem(TASKS, "needle", Task(lambda *_: sample))
    settings = SimpleNamespace(**vars(SETTINGS) | {"tasks": ["needle"], "lengths": [256], "depths": [0.5]})
    settings.batch_size = 3
    said = ["11 22 33 44", "11 22 39 44", "44 33 22 11"]
    (record,) = evaluate_retrieval(Fixed(said), TEXT, settings, 0, "fixed")
    assert (record["exact"], record["share"]) == (pytest.approx(1 / 3), pytest.approx((1 + 0.75 + 1) / 3))
    assert (record["parts"], record["outcomes"]) == (4, "434")
    assert 0.75 <= record["share_low"] < record["share"] < record["share_high"] <= 1
    (record,) = evaluate_retrieval(Fixed(["11 22 33 4."] * 3), TEXT, settings, 0, "fixed")
    assert (record["exact"], record["share"], record["share_low"]) == (0.0, 0.75, 0.75)


def test_a_task_without_depths_has_one_cell_of_as_many_samples():
    settings = SimpleNamespace(**vars(SETTINGS) | {"tasks": ["common-words", "multikey"], "lengths": [256]})
    seen: list[bytes] = []

    def right(samples):
        seen.extend(sample.prompt.tobytes() for sample in samples)
        return np.stack([sample.answer for sample in samples])

    counts = {"common-words": 2, "multikey": 2}
    records = ask(right, TEXT, settings, counts, [256], 0, "right")
    cells = [(record["task"], record["depth"], record["n"]) for record in records]
    assert cells == [("common-words", None, 6), *(("multikey", depth, 2) for depth in SETTINGS.depths)]
    assert all(record["exact"] == record["share"] == 1.0 for record in records)
    assert len(set(seen)) == 12, "no two prompts are the same"


def test_prompts_do_not_depend_on_the_other_cells(monkeypatch):
    seen = []
    model = Oracle(10**6)
    original = model.generate
    monkeypatch.setattr(model, "generate", lambda p, **o: (seen.append(p.clone()), original(p, **o))[1])
    settings = SimpleNamespace(**vars(SETTINGS) | {"tasks": ["needle"]})
    evaluate_retrieval(model, TEXT, settings, 0, "all")
    all_prompts, seen[:] = list(seen), []
    evaluate_retrieval(model, TEXT, SimpleNamespace(**vars(settings) | {"lengths": [512]}), 0, "one length")
    assert all(torch.equal(a, b) for a, b in zip(all_prompts[len(all_prompts) // 2 :], seen, strict=True))


def test_perplexity_of_a_known_distribution_by_position():
    """A model that gives the right token probability 1/2 in the first half of the context and 1/8 in the second."""

    class Known:
        device = torch.device("cpu")
        lm_head = torch.nn.Identity()  # the hidden states are logits
        config = SimpleNamespace()

        def model(self, input_ids, past_key_values, use_cache):
            # the next token is a function of the last, so that the model can know it
            targets = (input_ids + 1) % 256
            length = input_ids.shape[1]
            share = torch.where(torch.arange(length) < length // 2, 0.5, 0.125)[None, :, None]
            probabilities = ((1 - share) / (VOCABULARY_SIZE - 1)).expand(*input_ids.shape, VOCABULARY_SIZE).clone()
            probabilities.scatter_(2, targets[..., None], share.expand(*input_ids.shape, 1))
            return SimpleNamespace(last_hidden_state=probabilities.log())

    counting = (np.arange(5000) % 256).astype(np.uint16)
    records = evaluate_perplexity(Known(), counting, SETTINGS, 0, "known")
    assert [(r["position_start"], r["position_end"]) for r in records] == [(0, 128), (128, 256), (256, 384), (384, 512)]
    assert [r["perplexity"] for r in records] == pytest.approx([2, 2, 8, 8], rel=1e-4)
    assert [r["nll"] for r in records] == pytest.approx([math.log(2)] * 2 + [math.log(8)] * 2, rel=1e-4)
    assert all(r["n"] == 4 and r["nll_low"] <= r["nll"] <= r["nll_high"] for r in records)


def test_intervals():
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson 1927, by hand
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert bootstrap_interval([2.0, 2.0, 2.0], "median") == (2.0, 2.0)
