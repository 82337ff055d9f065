"""Greedy means greedy, everywhere: of a checkpoint's generation defaults, end-of-text tokens alone count."""

from functools import partial

import pytest
import torch
from transformers import GenerationConfig

from longgen.errors import ArtifactError
from longgen.evaluation.greedy import end_tokens, greedy_decoding, until_end
from longgen.evaluation.runs.model import greedy
from longgen.evaluation.runs.predict import PromptBatch, _answers
from longgen.evaluation.runs.reduced import KvBudget, greedy_with_reduced_cache
from longgen.evaluation.samples import Sample
from longgen.pattern import SparsePattern
from tests.modeling.models import tiny_hybrid

PATTERN = SparsePattern(16, 1, 4)
# one by one or together they change answers, or fail
HOSTILE = {
    "do_sample": True,
    "temperature": 2.0,
    "top_k": 3,
    "repetition_penalty": 1.8,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(100)),
    "begin_suppress_tokens": list(range(200)),
    "num_beams": 3,
    "num_return_sequences": 2,
    "min_length": 200,
    "min_new_tokens": 11,
    "max_length": 12,
    "max_time": 1e-9,
    "stop_strings": ["e"],
    "forced_eos_token_id": 3,
    "exponential_decay_length_penalty": (1, 9.0),
    "sequence_bias": [[[7], 50.0]],
    "guidance_scale": 3.0,
    "use_cache": False,
    "cache_implementation": "static",
    "prompt_lookup_num_tokens": 3,
    "output_scores": True,
    "return_dict_in_generate": True,
    "bad_words_ids": [[5]],
}


def prompt(size: int, seed: int) -> torch.Tensor:
    return torch.randint(97, 123, (1, size), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def argmaxes(model, tokens: torch.Tensor, count: int, banned=()) -> list[int]:
    """The definition: the likeliest token, ``count`` times."""
    for _ in range(count):
        scores = model(input_ids=tokens).logits[0, -1]
        scores[list(banned)] = -torch.inf
        tokens = torch.cat([tokens, scores.argmax()[None, None]], dim=1)
    return tokens[0, -count:].tolist()


def hostile(layout: str, ends) -> torch.nn.Module:
    model = tiny_hybrid("llama", layout, PATTERN)
    model.generation_config = GenerationConfig()
    for key, value in {**HOSTILE, "eos_token_id": ends}.items():
        setattr(model.generation_config, key, value)
    return model


@pytest.mark.parametrize("way", ["middle:1/3", "all", "reduced"])
def test_generation_defaults_of_a_checkpoint_change_no_answer(way):
    plain = tiny_hybrid("llama", "all" if way == "reduced" else way, PATTERN)
    x = prompt(90, 0)
    free = argmaxes(plain, x, 12)
    end = free[1]
    assert end != free[0]
    model = hostile("all" if way == "reduced" else way, [end, 127])
    model.load_state_dict(plain.state_dict())
    before = model.generation_config
    generate = (
        greedy_with_reduced_cache(model, "snapkv", KvBudget.parse("1"))
        if way == "reduced"
        else greedy(model, prefill_tokens=32)
    )
    given = generate(PromptBatch(x, torch.ones_like(x), 12))
    assert given.tokens[0].tolist() == free[: free.index(end) + 1]
    assert list(given.ends) == [end, 127]
    assert model.generation_config is before, "it is the model's own again"
    # recall: as many tokens as the right answer has, and end-of-text tokens are none of them
    whole = generate(PromptBatch(x, torch.ones_like(x), 12, min_new_tokens=12))
    assert whole.tokens.tolist() == [argmaxes(plain, x, 12, banned=[end, 127])]


def test_defaults_come_back_after_an_error_too():
    model = hostile("all", 3)
    before = model.generation_config
    with pytest.raises(RuntimeError, match="no"), greedy_decoding(model):
        assert end_tokens(model) == [3]
        raise RuntimeError("no")
    assert model.generation_config is before
    model.generation_config.eos_token_id = None
    assert end_tokens(model) == []


@pytest.mark.parametrize("way", ["middle:1/3", "all", "reduced"])
def test_answers_do_not_depend_on_batches_token_by_token(way, tokenizer):
    """Rows end at different places; the rest of a batch's row is filler, which is none of the answer."""
    model = tiny_hybrid("llama", "all" if way == "reduced" else way, PATTERN)
    model.resize_token_embeddings(260)
    sizes = (60, 60, 60, 60) if way == "reduced" else (90, 41, 17, 60)
    prompts = [prompt(size, number) for number, size in enumerate(sizes)]
    free = [argmaxes(model, x, 10) for x in prompts]
    model.generation_config.eos_token_id = ends = [free[0][1], free[1][0], 259]
    model.generation_config.pad_token_id = None
    generate = greedy_with_reduced_cache(model, "tova", KvBudget.parse("1")) if way == "reduced" else greedy(model)
    alone = [generate(PromptBatch(x, torch.ones_like(x), 10)).tokens[0].tolist() for x in prompts]
    expected = alone if way == "reduced" else [until_end(row, ends) for row in free]
    assert alone == expected
    assert len({len(row) for row in expected}) > 1, "some end early"
    width = max(sizes)
    tokens = torch.cat([torch.nn.functional.pad(x, (width - x.shape[1], 0), value=256) for x in prompts])
    given = generate(PromptBatch(tokens, (tokens != 256).long(), 10))
    assert [until_end(row, given.ends) for row in given.tokens.tolist()] == expected
    # and so are the texts that are written down
    samples = [
        Sample("needle", "keys", str(number), tokenizer.decode(x[0]), ["1"], 10) for number, x in enumerate(prompts)
    ]
    texts, _ = _answers(samples, tokenizer, generate, "cpu")
    assert texts == [tokenizer.decode(row, skip_special_tokens=True) for row in expected]
    assert texts == [_answers([sample], tokenizer, generate, "cpu")[0][0] for sample in samples]


WAYS = {
    "one by one": greedy,
    "in chunks": partial(greedy, prefill_tokens=32),
    "reduced": lambda model: greedy_with_reduced_cache(model, "snapkv", KvBudget.parse("0.9")),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["nan weights", "nan epsilon", "overflow", "nothing is possible"])
def test_scores_that_are_no_numbers_are_no_answer(way, fault):
    """An argmax of NaN is token 0, so that all answers would be alike, and the run would end well."""
    model = tiny_hybrid("llama", "all", PATTERN)
    x = prompt(90, 0)
    WAYS[way](model)(PromptBatch(x, torch.ones_like(x), 4))
    if fault == "nan weights":
        model.model.layers[2].mlp.up_proj.weight.data[0, 0] = float("nan")
    elif fault == "nan epsilon":
        model.model.norm.variance_epsilon = float("nan")
    elif fault == "overflow":  # of float16, where float32 has room
        for layer in model.model.layers:
            layer.mlp.up_proj.weight.data *= 1e3
            layer.mlp.down_proj.weight.data *= 3e5
        WAYS[way](model)(PromptBatch(x, torch.ones_like(x), 4))
        model.half()
    else:
        model.lm_head.register_forward_hook(lambda module, given, made: torch.full_like(made, -torch.inf))
    reason = "or dtype float16 is too narrow .*" if fault == "overflow" else "damaged"
    with pytest.raises(ArtifactError, match=rf"the best score of the next token is -?(nan|inf), .*{reason}$"):
        WAYS[way](model)(PromptBatch(x, torch.ones_like(x), 4))


def test_what_follows_the_end_is_cut():
    assert until_end([5, 6, 7, 6, 0], [6, 9]) == [5, 6]
    assert until_end([5, 6], [9]) == [5, 6]
    assert until_end([5, 6], []) == [5, 6]
