"""Decoding with fixed shapes: captured once as a whole graph, without a step that waits for the device."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from longgen.modeling import LongGenCache
from tests.modeling.models import PATTERNS, tiny_hybrid, tokens

CASES = [("middle:1/3", PATTERNS[0]), ("middle:1/3", PATTERNS[1]), ("heads:1/3", PATTERNS[-1])]


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
