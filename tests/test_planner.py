"""KV bytes, FLOPs and bytes moved: against the dense mask, and the numbers that DESIGN.md states."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.config import load_experiment
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.errors import ConfigError
from longgen.hybrid import Hybrid
from longgen.layout import Layout, make_layout
from longgen.model import Model, make_plan
from longgen.pattern import SparsePattern, dense_pairs
from longgen.planner import experiment_lengths, experiment_records, experiment_settings
from longgen.records.experiment import PlanRecord
from longgen.shapes import ModelShape, model_shape
from tests.experiments import experiment_file, tiny_settings
from tests.test_pattern import dense_mask, lengths, patterns

TINY = ModelShape("tiny", 5, 24, 40, 6, 2, 4, 50)
SINK, STRIDE = SparsePattern(64, 1, 16), SparsePattern(64, 1, 16, 16)
LONG = 131072
flags = st.booleans() | st.tuples(*[st.booleans()] * TINY.num_kv_heads)  # a layer, or its KV heads one by one
layouts = st.tuples(*[flags] * TINY.num_layers).map(Layout)
staggered = patterns.filter(lambda pattern: pattern.stride).map(
    lambda pattern: dataclasses.replace(pattern, staggered=True)
)


def head_masks(pattern: SparsePattern, layout: Layout, length: int) -> list[tuple[bool, np.ndarray]]:
    """For every KV head of every layer, whether it is full, and its dense mask."""
    dense, heads = np.tri(length, dtype=bool), TINY.num_kv_heads
    offsets = [head * pattern.stride // heads if pattern.staggered else 0 for head in range(heads)]
    sparse = [dense_mask(pattern, length, offset) for offset in offsets]
    return [
        (full, dense if full else sparse[head])
        for entry in layout.full
        for head, full in enumerate(entry if isinstance(entry, tuple) else (entry,) * heads)
    ]


# ---------------------------------------------------------------- counts against brute force
@given(patterns | staggered, layouts, lengths, st.integers(1, 9), st.integers(1, 3))
def test_kv_cache_bytes(pattern: SparsePattern, layout: Layout, length: int, full_chunk: int, batch: int) -> None:
    future = (pattern.local_blocks + 1) * pattern.block_size
    capacity = min(tokens for tokens in range(length, length + full_chunk) if tokens % full_chunk == 0)
    tokens = sum(
        capacity if full else int(mask[length:, :length].any(axis=0).sum())
        for full, mask in head_masks(pattern, layout, length + future)
    )
    expected = 2 * tokens * batch * TINY.head_dim * 4
    assert Model(TINY, Hybrid(layout, pattern)).kv_cache_bytes(length, 4, batch, full_chunk) == expected


@given(patterns | staggered, layouts, lengths, st.integers(1, 3))
def test_attention_flops(pattern: SparsePattern, layout: Layout, length: int, batch: int) -> None:
    groups = TINY.num_heads // TINY.num_kv_heads
    pairs = sum(groups * int(mask.sum()) for _, mask in head_masks(pattern, layout, length))
    assert Model(TINY, Hybrid(layout, pattern)).attention_flops(length, batch) == batch * pairs * 4 * TINY.head_dim


@given(patterns | staggered, layouts, lengths, st.integers(1, 3))
def test_decode_flops(pattern: SparsePattern, layout: Layout, length: int, batch: int) -> None:
    groups = TINY.num_heads // TINY.num_kv_heads
    keys = sum(groups * int(mask[length].sum()) for _, mask in head_masks(pattern, layout, length + 1))
    weights = matrix_flops_per_token(TINY) + 2 * TINY.hidden_size * TINY.vocab_size
    assert Model(TINY, Hybrid(layout, pattern)).decode_flops(length, batch) == batch * (
        keys * 4 * TINY.head_dim + weights
    )


def matrix_flops_per_token(shape: ModelShape) -> int:
    """Layer by layer and matrix by matrix: 2 x rows x columns, without the LM head."""
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    matrices = [
        (shape.hidden_size, queries),
        (shape.hidden_size, keys),
        (shape.hidden_size, keys),
        (queries, shape.hidden_size),
        (shape.hidden_size, shape.intermediate_size),
        (shape.hidden_size, shape.intermediate_size),
        (shape.intermediate_size, shape.hidden_size),
    ]
    return shape.num_layers * sum(2 * rows * columns for rows, columns in matrices)


@given(patterns, layouts, lengths, st.integers(1, 3))
def test_flops(pattern: SparsePattern, layout: Layout, length: int, batch: int) -> None:
    attention = Model(TINY, Hybrid(layout, pattern)).attention_flops(length, batch)
    layers = batch * length * matrix_flops_per_token(TINY)
    head = 2 * TINY.hidden_size * TINY.vocab_size
    assert Model(TINY, Hybrid(layout, pattern)).prefill_flops(length, batch) == attention + layers + batch * head
    forward = attention + layers + batch * length * head
    assert Model(TINY, Hybrid(layout, pattern)).training_flops(length, batch) == 3 * forward
    assert Model(TINY, Hybrid(layout, pattern)).training_flops(length, batch, recompute=True) == 4 * forward


def test_decode_reads_the_weights_once_and_every_cache() -> None:
    layout = make_layout(5, 2)
    for batch in (1, 3):
        cache = Model(TINY, Hybrid(layout, SINK)).kv_cache_bytes(200, 2, batch)
        assert Model(TINY, Hybrid(layout, SINK)).decode_bytes(200, batch) == 2 * TINY.parameters + cache
    tied = dataclasses.replace(TINY, tie_word_embeddings=True)
    saved = Model(TINY, Hybrid(layout, SINK)).decode_bytes(200) - Model(tied, Hybrid(layout, SINK)).decode_bytes(200)
    assert saved == 2 * TINY.vocab_size * TINY.hidden_size


# ---------------------------------------------------------------- DESIGN.md, "Arithmetic worth knowing"
@pytest.mark.parametrize(
    ("full_layers", "pattern", "reduction", "prefill", "decode"),
    [
        (12, SINK, 62.0, 1.81, 2.08),
        (11, SINK, 65.1, 1.88, 2.19),
        (11, STRIDE, 61.0, 1.79, 2.04),
    ],
)
def test_llama2_7b_at_128k(
    full_layers: int, pattern: SparsePattern, reduction: float, prefill: float, decode: float
) -> None:
    plan = make_plan(Model(model_shape("llama2-7b"), Hybrid(make_layout(32, full_layers), pattern)), LONG)
    assert round(100 * plan.kv_reduction, 1) == reduction
    assert round(plan.ideal_prefill_speedup, 2) == prefill
    assert round(plan.ideal_decode_speedup, 2) == decode


def test_exactly_one_third_with_stride_16_saves_62_percent_too() -> None:
    # 32 layers have no third, so the ratio is that of three layers
    shape = dataclasses.replace(model_shape("llama2-7b"), num_layers=3)
    assert round(100 * make_plan(Model(shape, Hybrid(make_layout(3, 1), STRIDE)), LONG).kv_reduction, 1) == 62.0


def test_llama2_70b_at_128k() -> None:
    shape = model_shape("llama2-70b")
    third = make_plan(Model(shape, Hybrid(make_layout(80, "1/3"), SINK)), LONG)
    assert round(third.ideal_decode_speedup, 2) == 1.18
    for full_layers, pattern in (("1/3", SINK), (30, SINK), ("1/3", STRIDE)):
        plan = make_plan(Model(shape, Hybrid(make_layout(80, full_layers), pattern)), LONG)
        assert 1.5 < plan.ideal_prefill_speedup < 1.6


def test_attention_of_one_sparse_layer_at_128k() -> None:
    assert round(dense_pairs(LONG) / SINK.attended_pairs(LONG)) == 62
    assert round(dense_pairs(LONG) / STRIDE.attended_pairs(LONG)) == 13


def test_ideals_of_the_paper() -> None:
    # "1.67x / 1.41x are 92 % / 68 % of that ideal", 12 of 32 layers
    plan = make_plan(Model(model_shape("llama2-7b"), Hybrid(make_layout(32, 12), SINK)), LONG)
    assert round(100 * 1.67 / plan.ideal_prefill_speedup) == 92
    assert round(100 * 1.41 / plan.ideal_decode_speedup) == 68


# ---------------------------------------------------------------- properties of a plan
@given(patterns, layouts, lengths)
def test_a_hybrid_never_costs_more_than_full_attention(pattern: SparsePattern, layout: Layout, length: int) -> None:
    plan = make_plan(Model(TINY, Hybrid(layout, pattern)), length)
    assert 0 <= plan.kv_fraction <= 1
    assert plan.kv_reduction == 1 - plan.kv_bytes / plan.kv_bytes_full
    assert min(plan.ideal_prefill_speedup, plan.ideal_decode_speedup, plan.ideal_training_speedup) >= 1


def test_full_attention_is_its_own_baseline() -> None:
    plan = make_plan(Model(TINY, Hybrid(make_layout(5, "all"), SINK)), 1000)
    assert plan.kv_bytes == plan.kv_bytes_full
    assert (plan.kv_fraction, plan.ideal_prefill_speedup, plan.ideal_decode_speedup) == (1, 1, 1)
    assert plan.ideal_training_speedup == 1


def test_longer_and_sparser_gain_more() -> None:
    shape = model_shape("llama2-7b")
    for pattern in (SINK, STRIDE):
        by_length = [make_plan(Model(shape, Hybrid(make_layout(32, 11), pattern)), 2**power) for power in range(12, 21)]
        by_count = [
            make_plan(Model(shape, Hybrid(make_layout(32, count), pattern)), LONG) for count in range(32, -1, -1)
        ]
        for plans in (by_length, by_count):
            for name in ("kv_reduction", "ideal_prefill_speedup", "ideal_decode_speedup", "ideal_training_speedup"):
                values = [getattr(plan, name) for plan in plans]
                assert all(low < high for low, high in itertools.pairwise(values)), name


def test_batch_scales_caches_and_flops_but_not_weights() -> None:
    layout = make_layout(5, 2)
    one, four = (make_plan(Model(TINY, Hybrid(layout, SINK)), 3000, batch) for batch in (1, 4))
    assert four.kv_bytes == 4 * one.kv_bytes
    assert four.prefill_flops == 4 * one.prefill_flops
    assert four.training_flops == 4 * one.training_flops
    assert one.decode_bytes < four.decode_bytes < 4 * one.decode_bytes


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"length": 0}, "length is 0: allowed is a whole number >= 1"),
        ({"length": 10.0}, "length is 10.0: allowed is a whole number >= 1"),
        ({"batch": 0}, "batch is 0: allowed is a whole number >= 1"),
        ({"bytes_per_value": -2}, "bytes_per_value is -2: allowed is a whole number >= 1"),
        ({"layout": Layout((True,))}, "layout has 1 layers: tiny has 5"),
    ],
)
def test_impossible_arguments_are_refused(changed: dict[str, Any], message: str) -> None:
    arguments = {"layout": make_layout(5, 2), "length": 100} | changed
    with pytest.raises(ConfigError) as error:
        make_plan(Model(TINY, Hybrid(arguments.pop("layout"), SINK)), **arguments)
    assert str(error.value) == message


def test_impossible_chunk_is_refused() -> None:
    with pytest.raises(ConfigError, match="full_chunk is 0: allowed is a whole number >= 1"):
        Model(TINY, Hybrid(make_layout(5, 2), SINK)).kv_cache_bytes(100, full_chunk=0)


# ---------------------------------------------------------------- experiments
def test_experiment_lengths_are_those_of_every_stage(tmp_path: Path) -> None:
    settings = tiny_settings()
    settings["benchmarks"]["suites"]["recall"]["lengths"] = [192, 256]
    settings["profiling"]["lengths"] = [512, 64, 256]
    experiment = load_experiment(experiment_file(tmp_path, settings))
    assert experiment_lengths(experiment) == [64, 128, 192, 256, 512]


def test_experiment(tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file(tmp_path))
    settings = experiment_settings(experiment)
    assert settings["model"]["name"] == "tiny"
    assert settings["model"]["vocab_size"] == VOCABULARY_SIZE
    assert (settings["base_length"], settings["trained_length"]) == (64, 256)
    assert settings["default_variants"] == ["full", "middle"]
    assert settings["variants"]["ends"] == {
        "layout": ["full", "sparse", "sparse", "sparse", "sparse", "full"],
        "pattern": {"block_size": 8, "sink_blocks": 1, "local_blocks": 2, "stride": 4, "staggered": False},
        "pattern_name": "stride",
        "placement": "ends",
        "full_layers": 2,
        "trained": True,
    }
    records = experiment_records(experiment)
    profiling = dataclasses.replace(experiment.profiling, dtype="bfloat16")
    halves = experiment_records(dataclasses.replace(experiment, profiling=profiling))
    assert [2 * half.kv_bytes for half in halves] == [record.kv_bytes for record in records]
    assert [(record.variant, record.length) for record in records] == [
        (variant, length) for variant in ("full", "middle", "ends", "none") for length in (128, 192, 256, 512)
    ]
    record = next(record for record in records if (record.variant, record.length) == ("middle", 256))
    variant = experiment.variant("middle")
    shape = ModelShape(**settings["model"])
    plan = make_plan(Model(shape, variant.hybrid), 256, bytes_per_value=4)
    assert record == PlanRecord(
        variant="middle",
        placement="middle",
        pattern="sink",
        full_layers=2,
        num_layers=6,
        length=256,
        kv_bytes=plan.kv_bytes,
        kv_fraction=plan.kv_fraction,
        prefill_flops=plan.prefill_flops,
        training_flops=plan.training_flops,
        decode_bytes=plan.decode_bytes,
        ideal_prefill_speedup=plan.ideal_prefill_speedup,
        ideal_decode_speedup=plan.ideal_decode_speedup,
        ideal_training_speedup=plan.ideal_training_speedup,
    )
