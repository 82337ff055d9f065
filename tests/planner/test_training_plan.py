"""Predicted time of training against sums by hand, and which set-ups are refused, with what remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.errors import ConfigError
from longgen.gpus import GIB, GPUS, gpu_named
from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.model import Model
from longgen.pattern import SparsePattern
from longgen.planner.job import Machine, TrainingJob
from longgen.planner.training import TrainingPlan, plan_training, remedies, require_fit
from longgen.planner.training_time import HOST_MEMORY_BANDWIDTH, step_time
from longgen.shapes import ModelShape, model_shape
from tests.planner.jobs import job, shape

# 2 layers of 4 x 16 x 16 + 3 x 16 x 32 + 2 x 16 weights, embeddings and head of 100 x 16, and a norm of 16
TINY = ModelShape("tiny", 2, 16, 32, 4, 4, 4, 100)
LAYER, ROOT = 2592, 3216


def plan(model: str, gpus: int, length: int = 131072, batch: int = 32, **setup) -> TrainingPlan:
    named = model_shape(model)
    layout = make_layout(named.num_layers, {"llama2-7b": 12, "llama2-70b": 27}[model])
    phase = PhaseSettings(length, batch, steps=1000, learning_rate=1e-5)
    training = TrainingSettings([phase], packed="rows.yaml", dtype="bfloat16")
    settings = SetupSettings(**{"recompute": True, "micro_batch_size": 1, "device": "cuda"} | setup)
    return plan_training(Model(named, Hybrid(layout, SparsePattern())), length, batch, training, settings, gpus)


def tiny(processes: int, gpus_per_node: int, **how) -> TrainingJob:
    machine = Machine(GPUS["h100-80gb"], gpus_per_node, network=50e9)
    return replace(job(TINY, processes=processes, length=1024, recompute=True, **how), machine=machine)


# ---------------------------------------------------------------- time
def test_compute() -> None:
    planned = job(shape(), processes=8, recompute=True)
    # layer by layer: 2 FLOPs for a weight and token, 4 x 32 heads x 128 for a pair; four forward passes' worth
    matrices = 2 * 32768 * (3 * (4 * 4096 * 4096 + 3 * 4096 * 11008) + 32000 * 4096)
    sparse, full = planned.model.hybrid.pattern.attended_pairs(32768), 32768 * 32769 // 2
    flops = 4 * 16 * (matrices + 4 * 4096 * (2 * sparse + full))
    assert step_time(planned).compute == pytest.approx(flops / (8 * 989.4e12 * 0.4))
    kept = replace(planned, setup=replace(planned.setup, recompute=False))
    assert step_time(kept).compute == pytest.approx(step_time(planned).compute * 3 / 4)


def test_sharding_within_a_node_and_between_nodes() -> None:
    # layers are gathered twice and the root once, in 2 bytes; gradients reduced in 4; two passes
    size = 2 * (2 * (2 * 2 * LAYER + ROOT) + 4 * (2 * LAYER + ROOT))
    assert step_time(tiny(4, 8)).sharding == pytest.approx(size * 3 / 4 / 450e9)
    assert step_time(tiny(4, 2)).sharding == pytest.approx(size / 2 / (2 * 50e9))
    assert step_time(tiny(1, 8)).sharding == 0


def test_exchange_within_a_node_and_between_nodes() -> None:
    # q, k, v, o of 16 numbers in 2 bytes, three times in two layers for 256 of 1024 tokens; two passes
    sent = 2 * 3 * 2 * 256 * 4 * 16 * 2
    assert step_time(tiny(4, 8, sequence_parallel=4)).exchange == pytest.approx(sent * 3 / 4 / 450e9)
    across = step_time(tiny(4, 2, sequence_parallel=4)).exchange  # one neighbour here, two there
    assert across == pytest.approx(sent / 4 / 450e9 + sent / 2 / 50e9)
    assert step_time(tiny(4, 8)).exchange == 0


def test_offloading() -> None:
    near, far = tiny(4, 2), tiny(4, 2, offload_activations=True, offload_parameters=True)
    # two passes, out and back: inputs of two layers, and what the last norm saves
    assert step_time(far).offload == pytest.approx(2 * 2 * 1024 * 16 * (2 * 2 + 10) / 64e9)
    shards = 2 * 4 * (2 * 2 * LAYER + ROOT + 2 * LAYER + ROOT) / 4
    assert step_time(far).sharding - step_time(near).sharding == pytest.approx(shards / 64e9)
    assert step_time(near).update == pytest.approx(28 * (2 * LAYER + ROOT) / (4 * 3.35e12))
    assert step_time(far).update == pytest.approx(28 * (2 * LAYER + ROOT) / (2 * HOST_MEMORY_BANDWIDTH))


def test_only_sharding_runs_beside_computation() -> None:
    time = step_time(tiny(4, 2, sequence_parallel=4, offload_activations=True))
    assert time.sharding > time.compute  # a tiny model: the network is the limit
    assert time.total == time.sharding + time.exchange + time.offload + time.update
    time = plan("llama2-7b", 8, sequence_parallel=8).step
    assert time.compute > time.sharding
    assert time.total == time.compute + time.exchange + time.update


def test_rate_utilization_and_days() -> None:
    planned = plan("llama2-7b", 8, sequence_parallel=8)
    assert planned.tokens_per_second == pytest.approx(32 * 131072 / planned.step.total)
    # of 0.4, three quarters are not recomputed; exchange and update take a little more
    assert 0.27 < planned.mfu < 0.3
    assert planned.days == pytest.approx(1000 * planned.step.total / 86400)
    shorter = PhaseSettings(8192, 64, steps=500, learning_rate=1e-5)
    phases = [*planned.job.training.phases, shorter]
    both = replace(planned, job=replace(planned.job, training=replace(planned.job.training, phases=phases)))
    first = plan("llama2-7b", 8, 8192, 64, sequence_parallel=8).step.total * 500 / 86400
    assert both.days == pytest.approx(planned.days + first)


# ---------------------------------------------------------------- what fits
def test_what_fits_is_accepted() -> None:
    planned = plan("llama2-7b", 8, sequence_parallel=8)
    assert planned.fits()
    require_fit(planned, planned.memory_bytes)
    with pytest.raises(ConfigError):
        require_fit(planned, planned.memory_bytes - 1)


def test_what_does_not_fit_is_refused_with_numbers_and_remedies() -> None:
    planned = plan("llama2-7b", 8)
    with pytest.raises(ConfigError) as error:
        require_fit(planned, 80 * GIB)
    assert str(error.value) == (
        "131,072 tokens of llama2-7b on 8 processes are predicted to need 82.2 GiB of GPU memory each, and 80.0 GiB "
        "are there (saved layer inputs 32.0, layer in work 29.2, optimizer state 6.3, reserve 5.8): allowed is what "
        "fits, such as sequence_parallel: 2 (50.6 GiB); or offload_activations: true (50.7 GiB, and 296 GiB of main "
        "memory per node); or offload_parameters: true (69.2 GiB, and 100 GiB of main memory per node); or "
        "processes: 16 (75.6 GiB)"
    )


def test_remedies_fit() -> None:
    asked = plan("llama2-70b", 8, sequence_parallel=8)
    assert not asked.fits()
    found = remedies(asked)
    assert [words.split(" (")[0] for words in found] == ["offload_parameters: true", "processes: 32"]
    assert plan("llama2-70b", 8, sequence_parallel=8, offload_parameters=True).fits()
    assert plan("llama2-70b", 32, sequence_parallel=8).fits()
    assert not plan("llama2-70b", 16, sequence_parallel=8).fits()


def test_several_changes_where_one_is_not_enough() -> None:
    asked = plan("llama2-70b", 8)
    found = remedies(asked)
    assert found and all(" and " in words for words in found)
    assert any(words.startswith("sequence_parallel: 4 and offload_parameters: true") for words in found)
    assert remedies(asked, memory_bytes=GIB) == []
    with pytest.raises(ConfigError, match=r"such as a smaller model, shorter rows or larger GPUs$"):
        require_fit(asked, GIB)


# ---------------------------------------------------------------- what cannot be shared out
@pytest.mark.parametrize(
    ("gpus", "changes", "message"),
    [
        (0, {}, "processes is 0: allowed is a whole number >= 1"),
        (12, {"sequence_parallel": 8}, "sequence_parallel is 8: allowed are divisors of the 12 processes"),
        (12, {"sequence_parallel": 3}, "sequence_parallel is 3: allowed are divisors of 32 heads that divide 32"),
        (8, {"sequence_parallel": 8, "length": 1001}, "length is 1001: allowed are multiples of sequence_parallel 8"),
        (64, {}, "batch_size is 32: allowed are multiples of 64, the groups of processes"),
        (8, {"micro_batch_size": 3}, "micro_batch_size is 3: allowed are divisors of 4, a group's rows"),
    ],
)
def test_impossible_set_ups_are_refused(gpus: int, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan("llama2-7b", gpus, **changes)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus_per_node": 0}, "gpus_per_node is 0: allowed is a whole number >= 1"),
        ({"network": 0}, "network is 0 bytes/s: allowed is a number > 0"),
        ({"efficiency": 1.2}, "efficiency is 1.2: allowed is a number > 0 and <= 1"),
    ],
)
def test_impossible_machines_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Machine(**options)
    assert str(error.value) == message


def test_unknown_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="gpu is 'v100': allowed are h100-80gb, h200"):
        gpu_named("v100")
