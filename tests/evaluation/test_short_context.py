"""Short contexts through lm-eval: its numbers, less memory, other data in the place of the official ones."""

import importlib.util
import json
import math
import shutil
import zlib

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel

from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID, PAD_ID
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.short_context import data as data_module
from longgen.evaluation.short_context import model as model_module
from longgen.evaluation.short_context import need_lm_eval, quiet_lm_eval
from longgen.evaluation.short_context import run as run_module
from longgen.evaluation.short_context.data import stand_in_data, stand_ins
from longgen.evaluation.short_context.model import LongGenLM
from longgen.evaluation.short_context.run import evaluate_short_context
from longgen.evaluation.short_context.tasks import TASKS, load_tasks
from longgen.names import SHORT_CONTEXT_TASKS
from longgen.pattern import SparsePattern
from tests.commands import longgen
from tests.modeling.models import save_byte_model, tiny_base

quiet_lm_eval()
SPECIAL = [("<s>", BOS_ID), ("</s>", EOS_ID)]
COLUMNS = ["task", "metric", "num_fewshot", "n", "score", "score_low", "score_high", "stand_in"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_byte_model(tmp_path_factory.mktemp("short") / "model", pattern=SparsePattern(16, 1, 2))


@pytest.fixture(scope="module")
def network(folder):
    return get_model("longgen").create_from_arg_string(f"pretrained={folder},dtype=float32", {"device": "cpu"}).model


def of(kind: str, *arguments) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]


def random_tokens(length: int, seed: int) -> list[int]:
    return torch.randint(3, 250, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(scope="module")
def requests(network):
    """(text, context, continuation): of several lengths, sharing inputs, too long, and one that is greedy."""
    context = random_tokens(70, 1)
    with torch.no_grad():
        greedy = network.generate(torch.tensor([context]), max_new_tokens=3, do_sample=False)[0, 70:].tolist()
    choices = [(None, context, [token]) for token in (5, 6, greedy[0])]  # MMLU's: one token after one context
    others = [(None, random_tokens(30 + 17 * i, i), random_tokens(1 + 3 * i, 9 + i)) for i in range(5)]
    long = (None, random_tokens(300, 20), random_tokens(40, 21))
    whole = (None, [7], random_tokens(128, 22))
    split = (None, context[:-1], [context[-1], 8])  # the input of the choices, of which more is asked
    return [*choices, others[0], long, (None, context, greedy), *others[1:], whole, split, others[2]]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_likelihoods_are_those_of_lm_eval(network, tokenizer, requests, batch_size, caplog):
    options = {"tokenizer": tokenizer, "batch_size": batch_size, "max_length": 128}
    # of one input with continuations of different lengths, its cache of logits takes the wrong positions
    expected = HFLM(network, logits_cache=False, **options)._loglikelihood_tokens(requests, disable_tqdm=True)
    found = LongGenLM(network, **options)._loglikelihood_tokens(requests, disable_tqdm=True)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [greedy for _, greedy in found].count(True) == 2
    assert f"1 of {len(requests)} prompts lose their start: 128 tokens" in caplog.text
    torch.testing.assert_close([value for value, _ in found], [value for value, _ in expected], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("softmax", [None, "float32"])
def test_half_precision_is_that_of_lm_eval(folder, tokenizer, requests, softmax):
    network = LongGenLM(str(folder), dtype="bfloat16", device="cpu").model
    options = {"tokenizer": tokenizer, "max_length": 128, "softmax_dtype": softmax}
    expected = HFLM(network, logits_cache=False, **options)._loglikelihood_tokens(requests, disable_tqdm=True)
    found = LongGenLM(network, **options)._loglikelihood_tokens(requests, disable_tqdm=True)
    torch.testing.assert_close([value for value, _ in found], [value for value, _ in expected], rtol=0.01, atol=0.02)
    few_digits = torch.tensor([value for value, _ in found])
    assert torch.equal(few_digits.bfloat16().float(), few_digits) == (softmax is None)


def test_rolling_and_generation_are_those_of_lm_eval(network, tokenizer):
    texts = ["A short text.", "Another one, which is longer than the context of the model. " * 5, "x"]
    prompts = ["Question: what?\nAnswer:", "1 2 3 4", "A much longer prompt, so that the first ones are padded. " * 2]
    options = {"tokenizer": tokenizer, "max_length": 150}
    hf = HFLM(network, batch_size=1, **options)
    expected = hf.loglikelihood_rolling(of("loglikelihood_rolling", *[(text,) for text in texts]), disable_tqdm=True)
    free = {"until": [], "max_gen_toks": 12}
    answers = hf.generate_until(of("generate_until", *[(prompt, free) for prompt in prompts]), disable_tqdm=True)
    stop = {"until": [answers[0][2]], "max_gen_toks": 12}  # a character that occurs
    asked = of("generate_until", *[(prompt, how) for how in (free, stop) for prompt in prompts])
    stopped = [answer.split(stop["until"][0])[0] for answer in answers]
    assert stopped != answers
    for batch_size in (1, 3):
        ours = LongGenLM(network, batch_size=batch_size, **options)
        found = ours.loglikelihood_rolling(of("loglikelihood_rolling", *[(text,) for text in texts]), disable_tqdm=True)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
        assert ours.generate_until(asked, disable_tqdm=True) == [*answers, *stopped]


def test_nothing_follows_a_context_and_text_stays_text(network, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=SPECIAL)
    lm = LongGenLM(network, tokenizer=tokenizer)
    assert lm._encode_pair("a </s>", " cd") == ([BOS_ID, *b"a </s>"], [*b" cd"])
    assert lm.tok_encode("a", add_special_tokens=False) == [*b"a"]
    tokens, mask = lm.tok_batch_encode(["abc", "a"], left_truncate_len=3)
    assert tokens.tolist() == [[*b"abc"], [PAD_ID, BOS_ID, *b"a"]]
    assert mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    # a chat template spells special tokens out, and means them
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}"
    assert lm.tok_encode(lm.apply_chat_template([{"role": "user", "content": "a"}])) == [BOS_ID, *b"a"]
    assert lm.tok_batch_encode(["<s>a"])[0].tolist() == [[BOS_ID, *b"a"]]


def test_generation_defaults_of_a_checkpoint_change_no_answer(network, tokenizer, monkeypatch):
    asked = of("generate_until", ("1 2 3 4", {"until": [], "max_gen_toks": 12}))
    expected = LongGenLM(network, tokenizer=tokenizer).generate_until(asked, disable_tqdm=True)
    hostile = GenerationConfig(repetition_penalty=1.8, num_beams=3, suppress_tokens=list(range(200)), min_length=90)
    monkeypatch.setattr(network, "generation_config", hostile)
    assert LongGenLM(network, tokenizer=tokenizer).generate_until(asked, disable_tqdm=True) == expected


def test_an_empty_context_is_the_prefix_token(network, tokenizer):
    lm = LongGenLM(network, tokenizer=tokenizer)
    empty, prefixed = lm.loglikelihood(of("loglikelihood", ("", "ab")), disable_tqdm=True)[0], lm.prefix_token_id
    assert empty == lm._loglikelihood_tokens([(None, [prefixed], tokenizer.encode("ab"))], disable_tqdm=True)[0]


def test_logits_are_of_continuations_alone_in_chunks(network, tokenizer, monkeypatch):
    monkeypatch.setattr(model_module, "CHUNK_TOKENS", 16)
    shapes = []
    hook = network.lm_head.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    lm = LongGenLM(network, tokenizer=tokenizer, batch_size=2, max_length=2048)
    try:
        lm._loglikelihood_tokens([(None, random_tokens(1500, 1), [3, 4, 5]), (None, random_tokens(9, 2), [6])])
        assert shapes == [(3, 260), (1, 260)]
        shapes.clear()
        lm.loglikelihood_rolling(of("loglikelihood_rolling", ("a" * 1000,)), disable_tqdm=True)
        assert {shape[0] for shape in shapes} == {16, 1000 % 16} and sum(shape[0] for shape in shapes) == 1000
        shapes.clear()
        lm.generate_until(of("generate_until", ("a" * 1000, {"until": [], "max_gen_toks": 2})), disable_tqdm=True)
        assert set(shapes) == {(1, 1, 260)}
    finally:
        hook.remove()


def test_refusals_of_the_model(network, tokenizer):
    with pytest.raises(ConfigError, match="batch_size is 'auto'"):
        LongGenLM(network, tokenizer=tokenizer, batch_size="auto")
    with pytest.raises(ConfigError, match="mixed_precision_dtype is 'bfloat16'"):
        LongGenLM(network, tokenizer=tokenizer, mixed_precision_dtype="bfloat16")
    with pytest.raises(ConfigError, match="truncation is True: allowed is false"):
        LongGenLM(network, tokenizer=tokenizer, truncation=True)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=8, n_layer=1, n_head=1, n_positions=32))
    with pytest.raises(ConfigError, match="model_type is 'gpt2': allowed is a hybrid, llama"):
        LongGenLM(gpt2, tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="continuation is 9: allowed is 8 tokens"):
        LongGenLM(network, tokenizer=tokenizer, max_length=8)._loglikelihood_tokens([(None, [3], [4] * 9)])


def test_a_model_without_all_of_its_weights_is_refused(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"broken misses model\.norm\.weight: allowed is what its config"):
        get_model("longgen").create_from_arg_string(f"pretrained={broken},dtype=float32", {"device": "cpu"})


def test_scores_that_are_no_numbers_are_refused(tokenizer):
    base = tiny_base(vocab_size=260)
    base.model.norm.weight.data[3] = math.nan
    model = LongGenLM(base, tokenizer=tokenizer)
    with pytest.raises(ArtifactError, match="the log-likelihood of a continuation is not a number"):
        model._loglikelihood_tokens([(None, [5, 6], [7])])
    with pytest.raises(ArtifactError, match="the best score of the next token is nan"):
        model.generate_until(of("generate_until", ("Once", {"until": ["."], "max_gen_toks": 4})))


def test_a_base_model_is_welcome(tokenizer):
    base = tiny_base(vocab_size=260)
    request = [(None, [5, 6], [7])]
    expected = HFLM(base, tokenizer=tokenizer)._loglikelihood_tokens(request, disable_tqdm=True)
    assert LongGenLM(base, tokenizer=tokenizer)._loglikelihood_tokens(request)[0][0] == pytest.approx(expected[0][0])


class Guesser(LM):
    """Answers that depend on the prompt alone."""

    def loglikelihood(self, requests):
        return [(-(zlib.crc32("".join(request.args).encode()) % 997) / 100, False) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        return ["10*6=60\n#### 60" for _ in requests]


@pytest.fixture(scope="module")
def every_task():
    return load_tasks(list(TASKS))


def test_scores_are_those_of_lm_eval(every_task, monkeypatch):
    original, seen = run_module.evaluate, {}
    monkeypatch.setattr(run_module, "evaluate", lambda *given, **how: seen.update(original(*given, **how)) or seen)
    records, _ = evaluate_short_context(Guesser(), every_task)
    assert all(list(record) == COLUMNS and record["stand_in"] is True for record in records)
    for record in records:
        metric = record["metric"] if "," in record["metric"] else f"{record['metric']},none"
        expected = seen["results"].get(record["task"], seen["groups"].get(record["task"]))
        assert record["score"] == pytest.approx(expected[metric])
        assert record["score_low"] <= record["score"] <= record["score_high"]
    by_task = {(record["task"], record["metric"]): record for record in records}
    assert (
        len(records) == len(by_task) == 5 + 57 + 4 * 2 + 2 + 2
    )  # groups, subjects, acc and acc_norm, gsm8k, the others
    assert by_task["mmlu", "acc"]["n"] == 57 * 2
    assert by_task["gsm8k", "exact_match,strict-match"]["score"] == 0.5  # one of the two answers is 60
    monkeypatch.undo()
    first, prompt = evaluate_short_context(Guesser(), load_tasks(["piqa"]), limit=1)
    assert first[0]["n"] == 1
    assert prompt != evaluate_short_context(Guesser(), load_tasks(["piqa"], num_fewshot=1), limit=1)[1]


def test_prompts_are_those_of_lm_eval():
    arc = load_tasks(["arc_easy"], num_fewshot=1).tasks["arc_easy"]
    arc.build_all_requests(limit=1)
    context, choice = arc.instances[0].args
    example, question = context.split("\n\n")
    assert question == "Question: Which animal hatches from an egg?\nAnswer:" and choice == " a cow"
    assert example in {
        f"Question: {record['question']}\nAnswer: {record['choices']['text']['ABCD'.index(record['answerKey'])]}"
        for record in stand_ins()["arc"]["train"]
    }
    swag = load_tasks(["hellaswag"], num_fewshot=0).tasks["hellaswag"]
    swag.build_all_requests()
    assert swag.instances[4].args == (
        "Mending a shirt: How to mend a shirt. Find thread of the same colour. Then",
        "  boil the shirt with salt.",
    )
    mmlu = load_tasks(["mmlu"]).tasks["mmlu_anatomy"]
    mmlu.build_all_requests(limit=1)
    prompt = mmlu.instances[0].args[0]
    assert prompt.startswith("The following are multiple choice questions (with answers) about anatomy.\n\nWhat is 7 ")
    assert prompt.count("\nAnswer:") == 6 and prompt.endswith("D. argon\nAnswer:")


def test_numbers_of_examples(every_task):
    assert {name: TASKS[name].num_fewshot for name in SHORT_CONTEXT_TASKS} == {
        "arc_challenge": 25,
        "hellaswag": 10,
        "mmlu": 5,
        "truthfulqa_mc2": 0,
        "winogrande": 5,
        "gsm8k": 5,
    }
    # as many stand-in examples as there are; HellaSwag draws one more than it uses
    found = {name: task.get_config("num_fewshot") for name, task in every_task.tasks.items()}
    assert (found["arc_challenge"], found["hellaswag"], found["mmlu_anatomy"], found["piqa"]) == (3, 2, 5, 0)
    asked = load_tasks(["mmlu", "truthfulqa_mc2"], num_fewshot=1).tasks
    # lm-eval's definition of TruthfulQA says 0, its prompt has examples of its own
    assert (asked["mmlu_anatomy"].get_config("num_fewshot"), asked["truthfulqa_mc2"].get_config("num_fewshot")) == (
        1,
        0,
    )


def write_official(root, task: str, family: str) -> None:
    for split, records in stand_ins()[family].items():
        path = root / "short-context" / task / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record | {"source_id": "x"}) + "\n" for record in records))


def test_own_data(tmp_path):
    write_official(tmp_path, "arc_easy", "arc")
    expected, prompts = evaluate_short_context(Guesser(), load_tasks(["arc_easy"], 2))
    records, own_prompts = evaluate_short_context(Guesser(), load_tasks(["arc_easy"], 2, str(tmp_path)))
    assert own_prompts == prompts
    assert records == [record | {"stand_in": False} for record in expected]
    with pytest.raises(ConfigError, match="num_fewshot of arc_easy is 4: allowed is up to 3"):
        load_tasks(["arc_easy"], 4, str(tmp_path))
    with pytest.raises(ArtifactError, match=r"arc_challenge/train\.jsonl is missing"):
        load_tasks(["arc_challenge"], 0, str(tmp_path))
    path = tmp_path / "short-context" / "arc_easy" / "test.jsonl"
    for line, message in (
        ('{"question": 3, "choices": {}, "answerKey": "A"}', "line 1: question is 3: allowed is a str"),
        ('{"question": "", "choices": {}}', "line 1: answerKey is missing"),
        ("[]", "line 1: is list"),
        ("{", "line 1: not JSON"),
        ("", "is empty"),
    ):
        path.write_text(line)
        with pytest.raises(ArtifactError, match=message):
            load_tasks(["arc_easy"], 0, str(tmp_path))


def test_the_hub(monkeypatch):
    asked = []

    def load_dataset(path, name=None, **_):
        asked.append((path, name))
        return stand_in_data("arc")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    loaded = load_tasks(["arc_challenge"], 1, "hub:")
    assert asked == [("allenai/ai2_arc", "ARC-Challenge")]
    assert loaded.stand_in is False and len(loaded.tasks["arc_challenge"].test_docs()) == 4


def test_unknown_tasks_and_no_lm_eval(monkeypatch):
    with pytest.raises(ConfigError, match="task is 'helaswag': allowed is arc_challenge, hellaswag"):
        load_tasks(["helaswag"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'longgen\[lm-eval\]'"):
        need_lm_eval()


def test_stand_ins_are_sound():
    assert set(stand_ins()) == {task.family for task in TASKS.values()}
    for family, splits in stand_ins().items():
        for records in splits.values():
            kinds = [{key: type(value) for key, value in record.items()} for record in records]
            assert all(kind == kinds[0] for kind in kinds), family  # what own data are compared with
            assert len({json.dumps(record) for record in records}) == len(records)
    assert data_module.stand_ins() is stand_ins()


@pytest.mark.slow
def test_command(folder, tmp_path):
    result = tmp_path / "short-context.json"
    words = ["short-context", folder, "--result", result, "--run", "x", "--variant", "v", "--limit", 2]
    words += ["--task", "gsm8k", "--task", "winogrande", "--num-fewshot", 1, "--batch-size", 3]
    assert "no scores of the benchmarks" in longgen(*words)
    written = json.loads(result.read_text())
    assert (written["kind"], written["run"], written["variant"]) == ("short-context", "x", "v")
    assert [(record["task"], record["n"], record["num_fewshot"]) for record in written["records"]] == [
        ("gsm8k", 2, 1),
        ("gsm8k", 2, 1),
        ("winogrande", 2, 1),
    ]
    assert all(list(record) == COLUMNS for record in written["records"])
    assert written["settings"]["data"] == "stand-in" and set(written["provenance"]["inputs"]) == {"model", "prompts"}
    assert written["provenance"]["attention"]["sparse"] == "blocked"
    assert "--dtype is 'float8'" in longgen(*words, "--dtype", "float8", code=2)
