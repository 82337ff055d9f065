"""The profilers on a GPU that is not there, at the layer shapes of Llama-2: what would fail or wait on a real one."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from longgen.kernels.decode import merge_kernel
from longgen.profiling import inference_measure, rounds
from longgen.profiling.device import capture_graph
from longgen.profiling.fastest import PrefillConfig, fastest_training_kernel
from longgen.profiling.implementations import IMPLEMENTATIONS
from longgen.profiling.inference_model import InferenceStack
from longgen.profiling.inference_records import FILLED, SLICES, InferenceCase
from longgen.profiling.inference_speed import InferenceSpeed
from longgen.profiling.session import Budget, Session
from longgen.profiling.stacks import SHAPES, Stack, slices
from longgen.profiling.timing import time_workload
from longgen.profiling.training_slice import TrainingSlice
from longgen.profiling.workloads import LLAMA2_7B, Workload
from longgen.results import load_result
from tests.profiling.absent_gpu import GIB, NAME, absent_gpu

SMALL, LARGE = SHAPES["llama2-7b"], SHAPES["llama2-70b"]
BFLOAT16 = torch.bfloat16


@pytest.fixture
def gpu():
    with absent_gpu() as found:
        yield found


# ---------------------------------------------------------------- what would notice
BAD = {
    "item waits": lambda tensor: tensor.sum().item(),
    "__bool__ waits": lambda tensor: bool(tensor.any()),
    "nonzero waits": lambda tensor: tensor.nonzero(),
    "tensor waits": lambda tensor: torch.tensor([1, 2], device="cuda"),
    "ones on the host": lambda tensor: torch.ones(3),
    "merge_kernel is compiled": lambda tensor: merge_kernel[(1, 1)](tensor, BLOCK_G=16),
}


@pytest.mark.parametrize(("message", "bad"), BAD.items())
def test_what_no_graph_can_hold_is_noticed(gpu, message, bad):
    tensor = torch.zeros(3, device="cuda")
    for fine in (lambda: merge_kernel[(1, 1)](tensor, BLOCK_G=32), lambda: tensor.add_(1)):
        fine()
        capture_graph(fine)
    with pytest.raises(AssertionError, match=message):
        capture_graph(lambda: bad(tensor))


def test_mixed_devices_are_noticed(gpu):
    tensor = torch.zeros(3, device="cuda")
    assert str((tensor + torch.tensor(2.0)).device) == "cuda:0"
    with pytest.raises(RuntimeError, match="not on the expected device"):
        torch.add(tensor, torch.ones(3))
    with pytest.raises(AssertionError, match="__getitem__ of tensors on the CPU and on the GPU"):
        tensor[torch.ones(3, dtype=torch.bool)]
    with pytest.raises(AssertionError, match="merge_kernel: tensors on the CPU"):
        merge_kernel[(1, 1)](torch.ones(3))


# ---------------------------------------------------------------- inference
@pytest.mark.slow
@pytest.mark.parametrize(("shape", "batch"), [(SMALL, 1), (LARGE, 4)], ids=["7b", "70b, batch 4"])
def test_prompts_are_read_and_decoding_is_captured_without_waiting(gpu, shape, batch):
    model = InferenceStack(shape, 2, "cuda", BFLOAT16, batch)
    assert model.sparse_kernel == "triton"
    gpu.waits.clear()
    for stack in slices(2)[:3]:
        for config in (
            PrefillConfig("sdpa-flash", 8192),
            PrefillConfig("triton", 8192),
            PrefillConfig("sdpa-cudnn", 32768),
        ):
            read = model.prefill(stack, 32768, config)
            assert not gpu.waits, f"{stack}, {config}"
        assert read.timing.peak_bytes > read.kv_bytes > 0
        for kernel in ("triton", "sdpa"):
            replayed, stepped = (model.decode(stack, 131072, kernel, capture) for capture in (True, False))
            # though a graph's replay makes no tensors that are counted
            assert replayed.timing.peak_bytes == stepped.timing.peak_bytes
        gpu.waits.clear()  # of what came before the steps that are timed
    assert Counter(gpu.launches)["split_kernel"] > 0


@pytest.mark.slow
def test_rounds_of_inference_compile_nothing(gpu, tmp_path, monkeypatch):
    """All that a round runs has run before, so that no time holds a compiler's."""

    def watched(*arguments):
        with gpu.without_compiling():
            return rounds.alternating_rounds(*arguments)

    monkeypatch.setattr(rounds, "MOST_ROUNDS", 1)
    monkeypatch.setattr(inference_measure, "alternating_rounds", watched)
    # as on a GPU that chooses to read in chunks, of which the first one's keys are no pruned cache's
    monkeypatch.setattr(inference_measure, "_chunks", lambda *arguments: [8192])
    session = Session(InferenceSpeed("cuda", trial=False, most_layers=2), tmp_path, "absent", Budget(3600))
    session.run([InferenceCase(SLICES, SMALL, 20000, 2)])
    assert {(record.status, record.reason) for record in session.records} == {("measured", None)}
    assert {record.note for record in session.records} == {None}, "steps are captured"
    assert load_result(session.path).provenance["device"]["name"] == NAME


def test_the_longest_context_is_what_memory_takes(tmp_path):
    shape = replace(SMALL, num_layers=3)
    with absent_gpu(free=5 * GIB) as gpu:
        session = Session(InferenceSpeed("cuda", trial=False), tmp_path, "absent", Budget(3600))
        session.run(InferenceCase(FILLED, shape, None, batch) for batch in (1, 4))
        assert gpu.memory.live == 0, "nothing is left behind"
    tokens = {(r.batch, r.pattern): r.length for r in session.records}
    peaks = [record.peak_bytes / GIB for record in session.records]
    assert 4 < min(peaks) < max(peaks) < 5, "the next step would not fit"
    assert tokens[1, "sink"] > 2 * tokens[1, "full"] > 0
    assert 0 < tokens[4, "full"] < tokens[1, "full"] / 4


# ---------------------------------------------------------------- training and kernels
def test_a_step_of_training_runs_and_compiles_nothing_the_second_time(gpu):
    """In float32: how FSDP2 makes bfloat16 of it, tests on the CPU show."""
    kernel = fastest_training_kernel(SMALL, 32768, "cuda", BFLOAT16)
    model = TrainingSlice(SMALL, 2, 32768, "cuda", "float32", kernel)
    assert (model.kernels["sparse"], kernel in ("sdpa-flash", "triton", "sdpa-cudnn")) == ("triton", True)
    for stack in (Stack("full", 2, 2), Stack("stride-16", 2, 1)):
        model.step(stack)
        gpu.waits.clear()
        with gpu.without_compiling():
            model.step(stack)
        # the row, which targets count, and the numbers of the step
        assert Counter(gpu.waits) == {"to": 3, "nonzero": 1, "tolist": 1, "__float__": 1}
    assert {"far_keys_kernel", "keys_kernel", "queries_kernel", "delta_kernel"} <= set(gpu.launches)


@pytest.mark.parametrize("name", ["longgen decode", "sdpa decode", "sdpa-flash decode"])
def test_decoding_by_every_implementation_is_captured(gpu, name):
    workload = Workload("decode", LLAMA2_7B, 131072, "stride-16", 16)
    assert len(time_workload(IMPLEMENTATIONS[name].attention(workload), workload, "cuda", BFLOAT16, 0.0)) >= 3
