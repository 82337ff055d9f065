"""Chunked prefill at the layer shapes of Llama-2 7B: memory as the planner says, and none that is quadratic."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig

from longgen.attention.blocked_plan import plan_chunks
from longgen.hybrid import Hybrid
from longgen.layout import Layout
from longgen.model import Model
from longgen.modeling import LongGenCache, longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.planner.inference import KV_CACHE, WEIGHTS, WORK, inference_memory
from longgen.shapes import ModelShape
from tests.modeling.memory_tracker import MemoryTracker

SINK, STRIDE = SparsePattern(64, 1, 16), SparsePattern(64, 1, 16, 16)
MIDDLE = Layout((False, True, False))


def prefill(
    layout: Layout, pattern: SparsePattern, length: int, chunk: int, kv_heads: int, steps: int = 0
) -> MemoryTracker:
    """Run the real code on fake tensors: shapes and lifetimes of all tensors are real, their contents absent.

    What is tracked is the prompt, or if there are any, the ``steps`` of decoding after it.
    """
    base = LlamaConfig(
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=layout.num_layers,
        num_attention_heads=32,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
    )
    plan_chunks.cache_clear()
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode(), MemoryTracker() as tracker, torch.inference_mode():
            model = longgen_classes("llama")[1](longgen_config(base, layout, pattern)).eval()
            tracker.watch()
            cache = LongGenCache(model.config)
            cache.reserve(length)
            for start in range(0, length, chunk):
                new = torch.zeros(1, min(chunk, length - start), dtype=torch.long)
                model(new, past_key_values=cache, logits_to_keep=1)
            if steps:
                tracker.watch()
            for _ in range(steps):
                model(torch.zeros(1, 1, dtype=torch.long), past_key_values=cache)
            return tracker
    finally:
        plan_chunks.cache_clear()  # its masks are fake
        torch.set_default_dtype(default)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "pattern", "length", "chunk", "kv_heads"),
    [
        (MIDDLE, STRIDE, 32768, 4096, 32),
        (MIDDLE, SINK, 16384, 4096, 32),
        (MIDDLE, SINK, 16384, 8192, 8),
        (Layout((False,) * 3), STRIDE, 16384, 2048, 32),
        (Layout((True,) * 3), SINK, 16384, 4096, 32),
        (Layout(((True,) * 10 + (False,) * 22,) * 3), SINK, 16384, 4096, 32),
    ],
    ids=str,
)
def test_peak_of_a_prefill_is_within_a_tenth_of_the_planners(layout, pattern, length, chunk, kv_heads):
    shape = ModelShape("7b layers", layout.num_layers, 4096, 11008, 32, kv_heads, 128, 32000)
    tracker = prefill(layout, pattern, length, chunk, kv_heads)
    planned = Model(shape, Hybrid(layout, pattern)).prefill_peak_bytes(length, chunk)
    assert tracker.peak == pytest.approx(planned, rel=0.1)
    # what is not weights, too: they are not to hide an error; masks that are kept for other layers come on top
    weights = shape.parameters * 2
    assert tracker.peak - weights == pytest.approx(planned - weights, rel=0.25)


@pytest.mark.parametrize("layout", [Layout((False,) * 3), MIDDLE], ids=str)
def test_peak_of_decoding_is_within_a_tenth_of_the_planners(layout):
    # in the second step a block goes out of sight of sparse layers, and the third grows the buffers of full ones
    shape = ModelShape("7b layers", layout.num_layers, 4096, 11008, 32, 32, 128, 32000)
    tracker = prefill(layout, STRIDE, 4094, 4094, 32, steps=3)
    planned = inference_memory(Model(shape, Hybrid(layout, STRIDE)), 4097, chunk=1)
    assert tracker.peak - planned[WEIGHTS] == pytest.approx(planned[KV_CACHE] + planned[WORK], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [SINK, STRIDE], ids=str)
def test_nothing_is_quadratic(pattern):
    short, long = (prefill(MIDDLE, pattern, length, 2048, 32) for length in (8192, 16384))
    full_keys = 16384 * 4096 * 2
    assert long.largest == full_keys, "no tensor is larger than the keys of a full layer"
    # twice the length: twice the keys and values of the one full layer; strided columns and masks take less than half
    assert full_keys <= long.peak - short.peak <= 1.5 * full_keys
