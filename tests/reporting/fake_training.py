"""Records of kind ``training-speed`` as a GPU might have given them, of layers whose times are known."""

from dataclasses import replace

from longgen.pattern import SparsePattern
from longgen.profiling.composition import REST, composed_seconds
from longgen.profiling.stacks import SHAPES, slices
from longgen.profiling.training_speed import TrainingCase, records_of
from longgen.records.kernels import TrainingSpeedRecord
from longgen.results import Result, save_result

LLAMA = SHAPES["llama2-7b"]
KNOWN = {REST: 0.7, "full": 1.5, "sink": 0.4, "stride-16": 0.55}


def slowness(length: int) -> float:
    """By how much longer steps are than at 128K, when only the length differs."""
    return (length / 131072) ** 1.5


def fake_records(noise: float = 0.0, shape=LLAMA, length: int = 131072) -> list[TrainingSpeedRecord]:
    """Three rounds of the `KNOWN` layers, in the second of which the machine is twice as slow."""
    rounds = [slowness(length) * slow for slow in (1, 2, 1 + noise)]
    seconds = {stack: [composed_seconds(KNOWN, stack) * slow for slow in rounds] for stack in slices(8)}
    found = records_of(TrainingCase(shape, length), "bfloat16", seconds, dict.fromkeys(seconds, 5), 989e12)
    return [replace(record, full_kernel="sdpa-cudnn", sparse_kernel="triton") for record in found]


def write_gpu_run(folder, records: list[TrainingSpeedRecord], device: dict | None = None) -> None:
    patterns = {"sink": SparsePattern(64, 1, 16).to_dict(), "stride-16": SparsePattern(64, 1, 16, 16).to_dict()}
    origin = {"device": device or {"kind": "cuda", "name": "Pretend GPU"}, "date": "2031-05-07T08:00:00+00:00"}
    settings = {"dtype": "bfloat16", "tiny": False, "patterns": patterns}
    result = Result("training-speed", folder.name, records, origin, settings=settings)
    save_result(folder / "kernels" / "training-speed.json", result)
