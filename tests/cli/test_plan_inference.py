"""`longgen plan` with a KV budget, a GPU, or a measurement: its rows, its tables, its messages, and the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longgen.errors import ConfigError
from longgen.gpus import GPUS
from longgen.hybrid import Hybrid
from longgen.layout import make_layout, parse_layout
from longgen.model import Model, make_plan
from longgen.pattern import SparsePattern
from longgen.planner.inference import decode_seconds, inference_memory, longest_context, prefill_seconds
from longgen.planner.rates import device_rates
from longgen.shapes import model_shape
from tests.cli.test_plan import longgen, rows
from tests.planner.test_inference import H100, ceilings

BUDGET = "--model llama2-7b --kv-budget 0.38"
MODEL = "--model llama3-8b --full-layers 11 --length 131072"
SHAPE = model_shape("llama3-8b")


def cells(text: str, *, having: str) -> list[list[str]]:
    """The lines of a table that have ``having``, word by word."""
    return [line.split() for line in text.splitlines() if having in line]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("docs/planning.md", 3), ("docs/cluster.md", 2), ("README.md", 1)])
def test_examples_in_the_docs_are_what_is_printed(name: str, count: int) -> None:
    text = (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
    examples = re.findall(r"```console\n\$ longgen plan (.*)\n((?:.*\n)*?)```", text)
    assert len(examples) == count
    for command, shown in examples:
        printed = [line.rstrip() for line in longgen(*command.split()).splitlines() if line.strip()]
        assert printed == shown.splitlines(), command


# ---------------------------------------------------------------- a budget
def test_budget_rows(tmp_path: Path) -> None:
    found = rows(*BUDGET.split())
    assert [(row["full_layers"], row["pattern"]["stride"], row["kv_reduction"]) for row in found] == [
        (12, 0, 0.62),
        (11, 21, 0.62),
        (10, 16, 0.639),
        (13, 0, 0.589),
        (11, 16, 0.61),
    ]
    assert [row["within_budget"] for row in found] == [True, True, True, False, False]
    assert (
        found[0]["kv_bytes"]
        == make_plan(Model(model_shape("llama2-7b"), Hybrid(make_layout(32, 12), SparsePattern())), 131072).kv_bytes
    )
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps(found[0]["layout"]))
    assert parse_layout(str(layout), 32) == make_layout(32, 12)


def test_options_narrow_a_budget_down() -> None:
    sizes = "--pattern stride --stride 8 --block-size 32 --sink-blocks 2 --local-blocks 4"
    found = rows(*BUDGET.split(), *f"{sizes} --length 8192 --batch 4 --bytes-per-value 1 --placement heads".split())
    pattern = SparsePattern(32, 2, 4, 8).to_dict()
    assert [(row["pattern"], row["within_budget"]) for row in found] == [(pattern, True), (pattern, False)]
    assert {(row["length"], row["batch"], row["placement"]) for row in found} == {(8192, 4, "heads")}
    assert found[0]["kv_bytes_full"] == 4 * 8192 * 32 * 4096 * 2
    assert found[1]["full_layers"] - found[0]["full_layers"] == 1 / 32  # a head


def test_heads_are_a_placement_without_a_budget_too() -> None:
    by_heads, by_layers = (rows(*MODEL.split(), "--placement", name)[0] for name in ("heads", "middle"))
    assert by_heads["full_layers"] == by_layers["full_layers"] == 11
    assert by_heads["kv_bytes"] == by_layers["kv_bytes"]


# ---------------------------------------------------------------- a GPU
def test_gpu_rows() -> None:
    found = rows(*MODEL.split(), *["--gpu", "a100-40gb", "--batch", "1,64", "--prefill-chunk", "1024"])
    assert [row["batch"] for row in found] == [1, 64]
    gpu, rates = device_rates("a100-40gb", None)
    for row in found:
        for name, full in (("", 11), ("_full_attention", 32)):
            model, batch = Model(SHAPE, Hybrid(make_layout(32, full), SparsePattern())), row["batch"]
            memory = inference_memory(model, 131072, batch, 1024)
            assert row[f"memory{name}"] == memory
            assert row[f"memory_bytes{name}"] == sum(memory.values())
            assert row[f"fits{name}"] == (sum(memory.values()) <= gpu.memory)
            assert row[f"longest_context{name}"] == longest_context(model, gpu.memory, batch, 1024)
            assert row[f"least_prefill_seconds{name}"] == prefill_seconds(model, 131072, rates, batch, 1024)
            assert row[f"least_decode_seconds{name}"] == decode_seconds(model, 131072, rates, batch)
    assert [row["fits"] for row in found] == [True, False]


def test_gpu_table_says_where_rates_are_from(tmp_path: Path) -> None:
    text = longgen(*MODEL.split(), "--gpu", "h100-80gb")
    assert "predicted, not measured; least: at the GPU's peak rates (datasheet)" in text
    # weights 15.0; a chunk of 4,096 tokens times (3 x 14,336 + 4 x 4,096) values of 2 bytes; reserve 1.3 and 1.8
    assert [line[2:7] for line in cells(text, having="131,072 ")[1:]] == [
        ["11/32", "5.6", "0.5", "22.3", "yes"],
        ["all", "16.0", "0.5", "33.2", "yes"],
    ]
    measured = longgen(*MODEL.split(), "--ceilings", str(ceilings(tmp_path)))
    assert f"at the GPU's peak rates (measured on {H100})" in measured


def test_contexts_beyond_the_largest_tried_are_marked() -> None:
    text = longgen(*["--model", "llama3-8b", "--full-layers", "none", "--gpu", "h200"])
    assert ">= 4,194,304" in text


# ---------------------------------------------------------------- a measurement
def test_expected_times_are_the_measured_ones_over_the_ideal() -> None:
    (row,) = rows(*MODEL.split(), *["--dense-prefill", "12", "--dense-decode", "0.04", "--batch", "8"])
    plan = make_plan(Model(SHAPE, Hybrid(make_layout(32, 11), SparsePattern())), 131072, 8)
    assert row["expected_prefill_seconds"] == 12 / plan.ideal_prefill_speedup
    assert row["expected_decode_seconds"] == 0.04 / plan.ideal_decode_speedup
    assert (row["dense_prefill_seconds"], row["dense_decode_seconds"]) == (12, 0.04)
    text = longgen(*MODEL.split(), "--dense-decode", "0.04")
    assert "predicted, not measured" in text
    assert not cells(text, having="12.00 s")


def test_nothing_more_than_asked_is_planned() -> None:
    (row,) = rows(*MODEL.split())
    assert not any(word in key for key in row for word in ("memory", "least", "expected", "gpu"))


# ---------------------------------------------------------------- bad options
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (f"{BUDGET} --full-layers 12 --gpu h200", "--full-layers, --gpu given with --kv-budget: allowed is one or"),
        (f"{BUDGET} --length 4096,8192", "--length is [4096, 8192]: allowed with --kv-budget is one"),
        (f"{BUDGET} --batch 1,2", "--batch is [1, 2]: allowed with --kv-budget is one"),
        (f"{BUDGET} --pattern window", "--pattern is 'window': allowed are sink, stride"),
        (f"{BUDGET} --placement centre", "--placement is 'centre': allowed are middle"),
        ("--model llama2-7b --kv-budget 38", "--kv-budget is 38.0: allowed is a number > 0 and < 1"),
        ("--model llama2-7b --kv-budget 0.001", "--kv-budget is 0.001: allowed is at least 0.0079 here"),
        ("--kv-budget 0.38", "--model is missing"),
        (f"{BUDGET} --config config/mini.yaml", "--model, --kv-budget given with --config"),
        (f"{BUDGET} --output x.json", "--output is 'x.json': allowed is a path with --config only"),
        (f"{MODEL} --gpu tpu", "--gpu is 'tpu': allowed are h100-80gb"),
        (f"{MODEL} --gpu h200 --bytes-per-value 4", "--bytes-per-value is 4: allowed is 2 (bfloat16) with a GPU"),
        (f"{MODEL} --gpu h200 --prefill-chunk 0", "--prefill-chunk is 0: allowed is a whole number >= 1"),
        (f"{MODEL} --prefill-chunk 64", "--prefill-chunk is 64: allowed is with --gpu or --ceilings"),
        (f"{MODEL} --dense-prefill 0", "--dense-prefill is 0.0: allowed is a number of seconds > 0"),
        (f"{MODEL} --dense-decode nan", "--dense-decode is nan: allowed is a finite number"),
        (f"{MODEL} --dense-decode 1 --batch 1,2", "--dense-decode is 1.0: allowed is a time at one --length"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        longgen(*options.split())
    assert str(error.value).startswith(message)


def test_help_names_every_gpu() -> None:
    shown = re.sub(r"[\s│]", "", longgen("--help"))  # however its lines are broken
    assert all(name in shown for name in GPUS)
