"""Decode kernels against float64 attention, in Triton's interpreter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longgen.attention.triton_decode import triton_decode
from longgen.modeling import LongGenCache
from longgen.pattern import SparsePattern
from tests.kernels.interpreter import checked_memory
from tests.modeling.models import tiny_hybrid, tokens


def reference(query, key, value, scale, valid) -> torch.Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = (states.double().repeat_interleave(group, 1) for states in (key, value))
    scores = (query.double() @ key.transpose(-1, -2) * scale).masked_fill(~valid[:, None, None], -torch.inf)
    return scores.softmax(-1) @ value


@settings(max_examples=40)
@given(
    batch=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 20),
    kv_len=st.integers(1, 300),
    head_dim=st.sampled_from([16, 24, 64, 96]),
    splits=st.sampled_from([None, 1, 2, 8]),
    limits=st.sampled_from(["none", "lengths", "mask", "both"]),
    seed=st.integers(0, 2**16),
)
def test_decode(batch, kv_heads, group, kv_len, head_dim, splits, limits, seed):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, kv_heads * group, 1, head_dim, generator=generator) * 3
    # a cache with room to spare: what lies behind kv_len must not be read
    key, value = torch.randn(2, batch, kv_heads, kv_len + 50, head_dim, generator=generator)
    key[:, :, kv_len:] = value[:, :, kv_len:] = torch.nan
    key, value = key[:, :, :kv_len], value[:, :, :kv_len]
    lengths = torch.randint(1, kv_len + 1, (batch,), generator=generator)
    mask = torch.rand(batch, kv_len, generator=generator) < 0.5
    mask[:, 0] = True
    valid = torch.ones(batch, kv_len, dtype=torch.bool)
    if limits in ("lengths", "both"):
        valid &= torch.arange(kv_len) < lengths[:, None]
    if limits in ("mask", "both"):
        valid &= mask
    options = {
        "lengths": lengths if limits in ("lengths", "both") else None,
        "mask": mask if limits in ("mask", "both") else None,
    }
    with checked_memory(query, key, value, lengths, mask):
        output = triton_decode(query, key, value, 0.2, splits=splits, **options)
    torch.testing.assert_close(output.double(), reference(query, key, value, 0.2, valid), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    query = torch.randn(2, 8, 1, 128).to(dtype)
    key, value = torch.randn(2, 2, 2, 700, 128).to(dtype)
    output = triton_decode(query, key, value, 128**-0.5)
    expected = reference(query, key, value, 128**-0.5, torch.ones(2, 700, dtype=torch.bool))
    assert output.dtype == dtype
    assert (output.double() - expected).abs().max() < 4 * torch.finfo(dtype).eps


def test_large_scores_do_not_overflow():
    query, (key, value) = torch.randn(1, 2, 1, 16) * 100, torch.randn(2, 1, 1, 200, 16) * 100
    output = triton_decode(query, key, value, 1.0, splits=4)
    expected = reference(query, key, value, 1.0, torch.ones(1, 200, dtype=torch.bool))
    torch.testing.assert_close(output.double(), expected, rtol=1e-3, atol=1e-1)


def test_more_than_one_query_is_refused():
    query, key = torch.randn(1, 2, 3, 16), torch.randn(1, 2, 30, 16)
    with pytest.raises(ValueError, match="q_len is 3: allowed is 1 to decode"):
        triton_decode(query, key, key, 1.0)


@pytest.mark.parametrize(
    ("layout", "pattern"), [("middle:1/3", SparsePattern(16, 1, 2, 3)), ("none", SparsePattern(16))]
)
def test_a_compiled_decode_step_is_one_graph_with_the_kernels_in_it(layout, pattern):
    hybrid, x = tiny_hybrid(layout=layout, pattern=pattern), tokens(60, batch=2)
    mask = torch.ones_like(x)
    mask[0, :17] = 0
    caches = [LongGenCache(hybrid.config, max_length=80) for _ in range(2)]
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    step = torch.compile(hybrid.forward, backend=keep, fullgraph=True, dynamic=False)
    with torch.inference_mode():
        for cache in caches:
            hybrid(x, attention_mask=mask, past_key_values=cache)
        for token in tokens(5, batch=2, seed=5).split(1, dim=1):
            expected = hybrid(token, past_key_values=caches[0]).logits
            hybrid.set_attn_implementation("longgen_triton")
            hybrid.use_full_attention("triton")
            torch.testing.assert_close(step(token, past_key_values=caches[1]).logits, expected, rtol=1e-3, atol=1e-4)
            hybrid.set_attn_implementation("longgen")
            hybrid.use_full_attention("auto")
    (graph,) = graphs
    launches = [node for node in graph.graph.nodes if node.target is torch.ops.longgen.decode.default]
    assert len(launches) == hybrid.config.num_hidden_layers
