"""Memory and time of inference: against real caches, hand-made arithmetic and measured ceilings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from longgen.errors import ArtifactError, ConfigError
from longgen.gpus import GIB, GPUS
from longgen.hybrid import Hybrid
from longgen.layout import make_layout, parse_layout
from longgen.model import Model
from longgen.modeling import LongGenCache, longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.planner.inference import (
    LONGEST,
    STEP,
    decode_seconds,
    inference_memory,
    longest_context,
    prefill_seconds,
)
from longgen.planner.rates import Rates, device_rates
from longgen.profiling.kernel_speed import measure_limits
from longgen.records.schema import row_of
from longgen.results import Result, save_result
from longgen.shapes import ModelShape, model_shape
from tests.modeling.models import tiny_base, tokens

SINK = SparsePattern(64, 1, 16)
MODEL = Model(model_shape("llama2-7b"), Hybrid(make_layout(32, 12), SINK))


# ---------------------------------------------------------------- memory
@pytest.mark.parametrize("layout", ["middle:1/3", "heads:1/3", "all"])
@pytest.mark.parametrize("batch", [1, 3])
def test_cache_and_weights_are_what_a_real_model_holds(layout: str, batch: int) -> None:
    base, pattern, length = tiny_base(tie_word_embeddings=False), SparsePattern(8, 1, 2, 4), 300
    split = parse_layout(layout, 6, 2)
    model = longgen_classes("llama")[1](longgen_config(base.config, split, pattern)).eval().bfloat16()
    cache = LongGenCache(model.config)
    with torch.no_grad():
        model(tokens(length, batch), past_key_values=cache, use_cache=True)
    memory = inference_memory(
        Model(ModelShape("tiny", 6, 64, 96, 4, 2, 16, 128), Hybrid(split, pattern)), length, batch
    )
    assert memory["KV cache"] == cache.nbytes()
    assert memory["weights"] == sum(weight.nbytes for weight in model.parameters())


def test_llama2_7b_by_hand() -> None:
    # 130,000 tokens take 508 chunks of 256; a sparse layer keeps 1 + 15 blocks of 64 and the 16 tokens of its own block
    memory = inference_memory(MODEL, 130000)
    token = 2 * 4096 * 2
    assert memory["weights"] == 2 * 6_738_415_616
    assert memory["KV cache"] == (12 * 508 * 256 + 20 * (1024 + 16)) * token
    assert memory["layer in work"] == 507 * 256 * token // 2  # the keys of a full layer before they last grew
    assert memory["reserve"] == GIB + int(0.05 * (memory["KV cache"] + memory["layer in work"]))
    # in larger chunks it is the MLP of the prompt, of every row
    large = inference_memory(MODEL, 130000, batch=2, chunk=65536)
    assert large["layer in work"] == 2 * 65536 * (3 * 11008 + 4 * 4096) * 2


@pytest.mark.parametrize("layout", ["none", "middle:12", "all"])
@pytest.mark.parametrize("batch", [1, 8, 64])
def test_longest_context_fits_and_a_step_more_does_not(layout: str, batch: int) -> None:
    shape, available = MODEL.shape, GPUS["a100-40gb"].memory
    split = parse_layout(layout, 32)

    def needed(length: int) -> int:
        return sum(inference_memory(Model(shape, Hybrid(split, SINK)), length, batch).values())

    longest = longest_context(Model(shape, Hybrid(split, SINK)), available, batch)
    if longest:
        assert needed(longest) <= available
    assert longest == LONGEST or needed(longest + STEP) > available
    assert (longest == LONGEST) == (layout == "none" and batch < 64)


def test_nothing_fits_where_the_weights_do_not() -> None:
    assert (
        longest_context(Model(model_shape("llama2-70b"), Hybrid(make_layout(80, 27), SINK)), GPUS["h100-80gb"].memory)
        == 0
    )


# ---------------------------------------------------------------- time
def test_the_longer_of_computation_and_memory_counts() -> None:
    flops, weights = MODEL.prefill_flops(10000), 2 * MODEL.shape.parameters
    assert prefill_seconds(MODEL, 10000, Rates(1e14, 1e15, "")) == flops / 1e14
    assert prefill_seconds(MODEL, 10000, Rates(1e20, 1e12, ""), chunk=4096) == 3 * weights / 1e12
    assert decode_seconds(MODEL, 10000, Rates(1e20, 1e12, ""), 4) == MODEL.decode_bytes(10000, 4) / 1e12
    # each sequence multiplies every weight once, and attends to 10,001 tokens in 12 layers, else to 1 + 15 blocks, to
    # the 16 tokens before it in its own, and to itself
    keys = 12 * 10001 + 20 * (1024 + 17)
    multiplied = MODEL.shape.num_layers * MODEL.shape.layer_weights + MODEL.shape.head_weights
    expected = 4 * (2 * multiplied + 4 * 4096 * keys)
    assert decode_seconds(MODEL, 10000, Rates(1e9, 1e20, ""), 4) == pytest.approx(expected / 1e9)


# ---------------------------------------------------------------- rates
H100 = "NVIDIA H100 80GB HBM3"
LIMIT = {"quantity": "copy bandwidth", "unit": "bytes per second", "value": 2.5e12}
LIMIT |= {"n": 3, "seconds": 1e-3, "seconds_low": 9e-4, "seconds_high": 1.1e-3}


def ceilings(folder: Path, device: str = H100, **changed: Any) -> Path:
    product = {"quantity": "matrix product", "unit": "operations per second", "value": 7e14}
    records = [LIMIT, LIMIT | product]
    origin = {"device": {"kind": "cuda", "name": device}}
    path = folder / "limits.json"
    save_result(path, Result("device-limits", "test", records, origin, settings={"dtype": "bfloat16", "tiny": False}))
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | changed))
    return path


def test_measured_ceilings_win_over_the_datasheet(tmp_path: Path) -> None:
    assert device_rates("h100-80gb", None) == (GPUS["h100-80gb"], Rates(989.4e12, 3.35e12, "datasheet"))
    measured = GPUS["h100-80gb"], Rates(7e14, 2.5e12, f"measured on {H100}")
    assert device_rates(None, ceilings(tmp_path)) == device_rates("h100-80gb", ceilings(tmp_path)) == measured
    assert device_rates("b200", ceilings(tmp_path, "A new GPU"))[0] == GPUS["b200"]


def test_what_the_profiler_writes_is_understood(tmp_path: Path) -> None:
    records = measure_limits("cpu", torch.float32, tiny=True)
    _, rates = device_rates(None, ceilings(tmp_path, records=[row_of(record) for record in records]))
    assert (rates.bandwidth, rates.flops) == (records[0].value, records[1].value)


@pytest.mark.parametrize(
    ("gpu", "changed", "message"),
    [
        ("h200", {}, f"measured on '{H100}': allowed are measurements on h200"),
        (None, {"device": "A new GPU"}, "measured on 'A new GPU', whose memory is not known: name the GPU as well"),
        (None, {"kind": "kernel-speed"}, "kind is 'kernel-speed': allowed is device-limits"),
        (None, {"settings": {"tiny": True}}, "settings.tiny is True: allowed is false: no try of the code"),
        (None, {"settings": {"tiny": False, "dtype": "float32"}}, "settings.dtype is 'float32': allowed is bfloat16"),
        (None, {"records": []}, "copy bandwidth is None: allowed is a number > 0"),
        (None, {"records": [LIMIT | {"value": 0}]}, "copy bandwidth is 0: allowed is a number"),
        (None, {"records": [LIMIT | {"value": "much"}]}, "records[0]: value is 'much': allowed is number"),
        (None, {"records": [{"quantity": "copy bandwidth"}]}, "records[0] lacks n, seconds, "),
    ],
)
def test_unusable_ceilings_are_refused(tmp_path: Path, gpu: str | None, changed: dict[str, Any], message: str) -> None:
    path = ceilings(tmp_path, **changed)
    with pytest.raises(ArtifactError) as error:
        device_rates(gpu, path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_gpu_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gpu is missing: give a GPU, or ceilings"):
        device_rates(None, None)
    with pytest.raises(ConfigError, match="gpu is 'tpu': allowed are h100-80gb, "):
        device_rates("tpu", None)
    with pytest.raises(ArtifactError, match=r"none\.json is missing: `python -m longgen\.profiling\.gpu` makes it"):
        device_rates(None, tmp_path / "none.json")
