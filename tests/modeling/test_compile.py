"""Decoding with fixed shapes: captured once as a whole graph, without a step that waits for the device."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from longgen.modeling import LongGenCache
from longgen.modeling.traced import document_numbers
from tests.modeling.models import PATTERNS, tiny_hybrid, tokens

CASES = [("middle:1/3", PATTERNS[1]), ("heads:1/3", PATTERNS[-1])]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "pattern"), CASES, ids=str)
def test_a_decode_step_is_one_graph_and_compiled_once(layout, pattern):
    hybrid, x = tiny_hybrid(layout=layout, pattern=pattern), tokens(100)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    # fullgraph: whatever reads a number back from the device is an error, as it would be in a CUDA graph
    step = torch.compile(hybrid.forward, backend=counter, fullgraph=True, dynamic=False)
    exact, fixed = LongGenCache(hybrid.config), LongGenCache(hybrid.config, max_length=100)
    assert fixed.is_compileable
    assert not exact.is_compileable
    with torch.inference_mode():
        hybrid(x[:, :21], past_key_values=exact)
        hybrid(x[:, :21], past_key_values=fixed)
        addresses = [tensor.data_ptr() for _, part in fixed.parts() for tensor in part.tensors().values()]
        for token in x[:, 21:].split(1, dim=1):
            expected = hybrid(token, past_key_values=exact).logits
            torch.testing.assert_close(step(token, past_key_values=fixed).logits, expected, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1
    assert addresses == [tensor.data_ptr() for _, part in fixed.parts() for tensor in part.tensors().values()]
    assert fixed.nbytes() > 0


@pytest.mark.slow
def test_under_autocast_too():
    hybrid, x = tiny_hybrid(layout="heads:1/3", pattern=PATTERNS[-1]), tokens(40)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    step = torch.compile(hybrid.forward, backend=counter, fullgraph=True, dynamic=False)
    eager, fixed = (LongGenCache(hybrid.config, max_length=40) for _ in range(2))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for cache in (eager, fixed):
            hybrid(x[:, :30], past_key_values=cache)
        for token in x[:, 30:].split(1, dim=1):
            expected = hybrid(token, past_key_values=eager).logits
            torch.testing.assert_close(step(token, past_key_values=fixed).logits, expected, rtol=0.05, atol=0.01)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_a_row_of_any_length_decodes_in_the_same_graph():
    hybrid, x = tiny_hybrid(pattern=PATTERNS[1]), tokens(40, batch=3)
    mask = torch.ones_like(x)
    mask[0, :17] = mask[1, :39] = 0
    torch._dynamo.reset()
    step = torch.compile(hybrid.forward, backend="aot_eager", fullgraph=True, dynamic=False)
    eager, compiled = (LongGenCache(hybrid.config, max_length=80) for _ in range(2))
    with torch.inference_mode():
        for cache in (eager, compiled):
            hybrid(x, attention_mask=mask, past_key_values=cache)
        for token in tokens(30, batch=3, seed=5).split(1, dim=1):
            expected = hybrid(token, past_key_values=eager).logits
            torch.testing.assert_close(step(token, past_key_values=compiled).logits, expected, rtol=1e-4, atol=1e-5)


def test_static_generation_equals_dynamic_generation():
    hybrid, x = tiny_hybrid(), tokens(61)
    options = {"max_new_tokens": 40, "do_sample": False, "eos_token_id": None, "return_dict_in_generate": True}
    static = hybrid.generate(x, cache_implementation="static", **options)
    assert static.past_key_values.max_length >= 100
    assert torch.equal(static.sequences, hybrid.generate(x, **options).sequences)


# Where tokens stand is told by numbers, which a graph under construction does not have.
MASK = torch.ones(2, 45, dtype=torch.long)
MASK[0, :9] = 0
PLACES = {
    "nothing": {},
    "padding": {"attention_mask": MASK},
    "documents": {"position_ids": torch.cat([torch.arange(20), torch.arange(25)]).expand(2, -1)},
}


def _compiled_case(places: str):
    layout, pattern = ("heads:1/3", PATTERNS[-1]) if places in ("padding", "documents") else ("middle:1/3", PATTERNS[1])
    return tiny_hybrid(layout=layout, pattern=pattern), tokens(45), PLACES[places]


@pytest.mark.slow
@pytest.mark.parametrize("places", PLACES)
def test_training_is_one_graph_with_the_same_gradients(places):
    hybrid, x, options = _compiled_case(places)
    labels = x.masked_fill(options.get("attention_mask", torch.ones_like(x)) == 0, -100)
    hybrid.train()(x, labels=labels, **options).loss.backward()
    expected = [parameter.grad.clone() for parameter in hybrid.parameters()]
    hybrid.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(hybrid, backend="aot_eager", fullgraph=True)
    compiled(x, labels=labels, **options).loss.backward()
    for (name, parameter), want in zip(hybrid.named_parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, want, rtol=1e-4, atol=1e-6, msg=name)


def test_an_exported_model_computes_the_same():
    hybrid, x, options = _compiled_case("padding")
    exported = torch.export.export(hybrid, (x,), options | {"use_cache": False}).module()
    other = tokens(45, seed=9)
    expected = hybrid(other, **options, use_cache=False).logits
    real = MASK.bool()
    torch.testing.assert_close(exported(other, **options, use_cache=False).logits[real], expected[real])


def test_documents_are_numbered_by_whatever_tells_them_apart():
    given, positions = torch.zeros(2, 6), torch.tensor([[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]])
    assert document_numbers(given, None, positions, None).tolist() == [[1, 1, 2, 2, 2, 3], [1] * 6]
    assert document_numbers(given[:1], None, None, torch.tensor([0, 2, 5, 6])).tolist() == [[1, 1, 2, 2, 2, 3]]
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]).bool()
    assert document_numbers(given, mask, None, None).tolist() == mask.int().tolist()
    assert document_numbers(given, mask, positions, None).tolist() == [[-1] * 6, [1, 1, 1, 0, 0, 0]]


@pytest.mark.slow
def test_a_graph_refuses_when_it_runs_what_the_model_refuses():
    hybrid, x, options = _compiled_case("documents")
    torch._dynamo.reset()
    compiled = torch.compile(hybrid, backend="aot_eager", fullgraph=True)
    hole = torch.ones_like(x)
    with torch.no_grad():
        compiled(x, attention_mask=hole, use_cache=False)
        hole[0, 20] = 0  # and computes what the model computes, with the same graph
        actual, expected = (run(x, attention_mask=hole, use_cache=False).logits for run in (compiled, hybrid))
        torch.testing.assert_close(actual[hole.bool()], expected[hole.bool()])
        with pytest.raises(ValueError, match="position_ids do not rise by one"):
            compiled(x, attention_mask=torch.ones_like(x), use_cache=False, **options)


@pytest.mark.slow
def test_a_graph_takes_the_caches_that_the_model_takes():
    hybrid, x = tiny_hybrid(pattern=PATTERNS[1]), tokens(40, batch=2)
    compiled, other = torch.compile(hybrid, backend="eager"), tiny_hybrid(pattern=PATTERNS[0])
    sliding = DynamicCache()
    sliding.layers = [DynamicSlidingWindowLayer(sliding_window=8) for _ in range(6)]
    scaled = tiny_hybrid(pattern=PATTERNS[1]).config
    scaled.rope_parameters = scaled.rope_parameters | {"rope_theta": 5.0}
    refused = {
        "StaticCache with layers of StaticLayer": StaticCache(config=hybrid.config, max_cache_len=64),
        "DynamicCache with layers of DynamicSlidingWindowLayer": sliding,
        "a LongGenCache of a model with another layout or pattern": LongGenCache(other.config, max_length=64),
        "a LongGenCache of a model with RoPE": LongGenCache(scaled, max_length=64),
    }
    with torch.no_grad():
        expected = hybrid(x).logits
        for cache in (DynamicCache(), LongGenCache(hybrid.config, max_length=64)):
            parts = [compiled(part, past_key_values=cache).logits for part in x.split([20, 19, 1], dim=1)]
            torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-5, atol=1e-5)
        for words, cache in refused.items():
            torch._dynamo.reset()
            with pytest.raises(ValueError, match=f"past_key_values is {words}"):
                compiled(x, past_key_values=cache)
