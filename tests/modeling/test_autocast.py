"""Mixed precision of whole models: forward, backward and cached decoding under torch.autocast."""

import pytest
import torch

from longgen.modeling import LongGenCache
from longgen.modeling.attention_parts import Kernels
from longgen.modeling.configuration import head_groups_of
from longgen.modeling.traced import attend_documents, groups_as_text
from tests.modeling.models import LAYOUTS, PATTERNS, tiny_base, tiny_hybrid, tokens
from tests.modeling.test_cache import KINDS, feed, make, planned_bytes

HALF = torch.bfloat16


def mixed() -> torch.autocast:
    return torch.autocast("cpu", HALF)


def gradients(model, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    with mixed():
        loss = model.train()(x, labels=x).loss
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("length", [45, 150])
@pytest.mark.parametrize("layout", [*LAYOUTS, "all"])
def test_a_training_step_is_that_of_the_reference_and_of_the_base(layout, length):
    x = tokens(length)
    hybrid, other = (tiny_hybrid(layout=layout, pattern=PATTERNS[-1]) for _ in range(2))
    other.config._attn_implementation = "longgen_reference"
    if layout == "all":
        other = tiny_base()
    loss, grads = gradients(hybrid, x)
    expected, wanted = gradients(other, x)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)
    for got, want in zip(grads, wanted, strict=True):
        assert got.dtype == torch.float32
        assert (got - want).norm() <= 0.05 * want.norm()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_holds_what_autocast_computes_with(layout, kind):
    hybrid, x = tiny_hybrid(layout=layout, pattern=PATTERNS[-1]), tokens(150)
    with mixed():
        expected = feed(hybrid, x, LongGenCache(hybrid.config))
        cache = make(hybrid, kind)
        actual = feed(hybrid, x, cache, 110, *[1] * 3, 37)
    tolerance = 0.05 if kind == "int4" else 0.01
    assert (actual - expected).norm() <= tolerance * expected.norm()
    assert all(part.dtype == HALF for _, part in cache.parts())
    if kind == "exact":
        assert 2 * cache.nbytes() == planned_bytes(hybrid, 150)
    with pytest.raises(ValueError, match=r"are torch\.float32: this cache holds torch\.bfloat16 .* go on under it"):
        feed(hybrid, x[:, :1], cache)


def test_a_cache_of_float32_goes_on_under_autocast():
    hybrid, x = tiny_hybrid(), tokens(150)
    for kind in KINDS:
        cache = make(hybrid, kind)
        feed(hybrid, x[:, :120], cache)
        with mixed():
            actual = feed(hybrid, x[:, 120:], cache, *[1] * 10, 20)
        expected = feed(hybrid, x, LongGenCache(hybrid.config))[:, 120:]
        assert (actual - expected).norm() <= 0.05 * expected.norm()
        assert all(part.dtype == torch.float32 for _, part in cache.parts())


@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}, {"use_cache": False}], ids=str)
def test_generation(options):
    hybrid, x = tiny_hybrid(layout="heads:1/3", pattern=PATTERNS[-1]), tokens(130)
    mask = torch.ones_like(x)
    mask[0, :90] = 0
    with mixed():
        for rows in ({}, {"attention_mask": mask}):
            new = hybrid.generate(x, max_new_tokens=5, min_new_tokens=5, do_sample=False, **rows, **options)
            assert new.shape == (2, 135)


def test_other_dtypes_beside_each_other_are_refused_without_autocast():
    hybrid, x = tiny_hybrid(), tokens(20)
    hybrid.model.layers[0].self_attn.v_proj.half()
    hybrid.model.layers[0].self_attn.v_proj.register_forward_pre_hook(lambda module, given: given[0].half())
    for options in ({}, {"use_cache": False}):
        with (
            torch.no_grad(),
            pytest.raises(ValueError, match=r"dtypes differ: .* value torch\.float16"),
        ):
            hybrid(x, **options)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32, HALF), (torch.float32,) * 3], ids=["mixed", "same"])
def test_attention_in_a_graph_is_the_eager_one(dtypes):
    heads, *_ = head_groups_of(tiny_hybrid(layout="heads:1/3", pattern=PATTERNS[-1]).config)
    groups, kernels = groups_as_text(heads), Kernels()
    states = [torch.randn(2, count, 60, 16).to(dtype) for count, dtype in zip((4, 2, 2), dtypes, strict=True)]
    documents = torch.ones(2, 60, dtype=torch.int64)
    documents[0, :25] = 0

    def attention(query, key, value):
        return attend_documents(query * 1, key, value, documents, groups, None, kernels)

    torch._dynamo.reset()
    results = []
    for run in (attention, torch.compile(attention, backend="aot_eager", fullgraph=True)):
        inputs = [tensor.clone().requires_grad_() for tensor in states]
        with mixed():
            output = run(*inputs)
        results.append([output.detach(), *torch.autograd.grad(output.float().square().sum(), inputs)])
    for got, want, dtype in zip(results[1], results[0], (HALF, *dtypes), strict=True):
        assert got.dtype == want.dtype == dtype
        assert torch.equal(got, want)
