"""Records of kind ``inference-speed`` as a GPU might have given them, of layers whose times are known."""

from dataclasses import replace

from longgen.pattern import SparsePattern
from longgen.profiling.composition import REST, composed_seconds
from longgen.profiling.device import Timing
from longgen.profiling.inference_model import InferenceTiming
from longgen.profiling.inference_records import SLICES, InferenceCase, records_of
from longgen.profiling.stacks import SHAPES, Stack, slices, whole_models
from longgen.records.kernels import InferenceSpeedRecord
from longgen.results import Result, save_result

LLAMA = SHAPES["llama2-7b"]
GIB = 2**30
KNOWN = {
    "prefill": {REST: 0.01, "full": 0.5, "sink": 0.1, "stride-16": 0.15},
    "decode": {REST: 1e-4, "full": 7e-4, "sink": 1e-4, "stride-16": 1.5e-4},
}


def fake_rounds(stage: str, found: list[Stack], length: int) -> dict[Stack, list[InferenceTiming]]:
    """Three rounds of the `KNOWN` layers, in the second of which the machine is twice as slow."""

    def size(stack: Stack) -> int:
        return stack.model(LLAMA).kv_cache_bytes(length)

    return {
        stack: [
            InferenceTiming(Timing(composed_seconds(KNOWN[stage], stack) * slow, 7 * GIB), size(stack))
            for slow in (1, 2, 1.01)
        ]
        for stack in found
    }


def fake_records(
    how: str, length: int = 131072, found: list[Stack] | None = None, batch: int = 1
) -> list[InferenceSpeedRecord]:
    case = InferenceCase(how, LLAMA, length, batch)
    found = found or (slices(8) if how == SLICES else whole_models(LLAMA))
    return [
        replace(record, chunk=8192, full_kernel="sdpa-flash", sparse_kernel="triton")
        for stage in KNOWN
        for record in records_of(case, stage, "bfloat16", 2, fake_rounds(stage, found, length))
    ]


def write_gpu_run(folder, records: list[InferenceSpeedRecord], device: dict | None = None) -> None:
    patterns = {"sink": SparsePattern(64, 1, 16).to_dict(), "stride-16": SparsePattern(64, 1, 16, 16).to_dict()}
    origin = {"device": device or {"kind": "cuda", "name": "Pretend GPU"}, "date": "2031-05-07T08:00:00+00:00"}
    settings = {"dtype": "bfloat16", "tiny": False, "patterns": patterns}
    result = Result("inference-speed", folder.name, records, origin, settings=settings)
    save_result(folder / "kernels" / "inference-speed.json", result)
