"""A run of `python -m longgen.profiling.gpu` on a pretended GPU: made-up times, like those of an H100, no two alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from longgen.pattern import SparsePattern
from longgen.profiling.kernel_speed import derive
from longgen.records.kernels import DeviceLimitRecord, KernelSpeedRecord
from longgen.records.schema import row_of
from longgen.results import Result, save_result

Record = dict[str, Any]
GPU, DAY = "Pretend GPU 80GB", "2031-05-07"
LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)
LONGEST = (262144, 1048576)
FLEX_LENGTHS = (32768, 131072)
HEADS = {"llama2-7b": (32, 32), "llama2-70b": (64, 8)}
HEAD_DIM = 128
PATTERNS = {"full": None, "sink": SparsePattern(64, 1, 16), "stride-16": SparsePattern(64, 1, 16, 16)}
COPY = 2.9e12
# operations per second of long sequences
RATES = {
    ("sdpa-flash", "full"): 3.6e14,
    ("sdpa-cudnn", "full"): 5.3e14,
    ("longgen full", "full"): 4.1e14,
    ("longgen", "sink"): 3.1e14,
    ("longgen", "stride-16"): 3.7e14,
    ("flex-128", "sink"): 1.7e14,
    ("flex-128", "stride-16"): 2.5e14,
    ("flex-64", "sink"): 1.3e14,
    ("flex-64", "stride-16"): 1.9e14,
}


def cases() -> Iterator[Record]:
    """What identifies every record of kind ``kernel-speed``."""
    for shape in HEADS:
        for stage in ("forward", "forward+backward"):
            for length in (*LENGTHS, *(LONGEST if (shape, stage) == ("llama2-7b", "forward") else ())):
                for name, pattern in (("flash-attn", "full"), *RATES):
                    dense_too_long = pattern == "full" and length == LONGEST[-1]
                    if not dense_too_long and (not name.startswith("flex") or length in FLEX_LENGTHS):
                        yield describe(stage, shape, length, 1, pattern, name)
        for length in LENGTHS:
            for batch, pattern in ((1, "full"), (1, "sink"), (1, "stride-16"), (16, "sink"), (16, "stride-16")):
                for name in ("longgen decode", "sdpa decode"):
                    yield describe("decode", shape, length, batch, pattern, name)


def describe(stage: str, shape: str, length: int, batch: int, pattern: str, name: str) -> Record:
    """What identifies a case, and the work that it needs."""
    heads, kv_heads = HEADS[shape]
    case = {"stage": stage, "shape": shape, "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": HEAD_DIM}
    case |= {"dtype": "bfloat16", "length": length, "batch": batch, "pattern": pattern, "implementation": name}
    sparse = PATTERNS[pattern]
    if stage == "decode":
        tokens = 1 + (length if sparse is None else sparse.kept_count(length))
        flops = 4 * tokens * HEAD_DIM * heads * batch
        return case | {"flops": flops, "bytes": 4 * (tokens * kv_heads + heads) * HEAD_DIM * batch}
    pairs = length * (length + 1) // 2 if sparse is None else sparse.attended_pairs(length)
    passes = 7 if stage == "forward+backward" else 2
    return case | {"flops": 2 * passes * pairs * HEAD_DIM * heads, "bytes": 1000 * length * heads}


def time_of(case: Record) -> float:
    """The made-up time of a case in seconds."""
    if case["stage"] == "decode":
        ours = case["implementation"] == "longgen decode"
        return (7e-6 if ours else 1.9e-5) + case["bytes"] / (2.55e12 if ours else 1.7e12)
    rate = RATES[case["implementation"], case["pattern"]]
    rate *= (1.0 if case["stage"] == "forward" else 0.8) * (1.02 if case["shape"] == "llama2-7b" else 1.0)
    return 2.5e-5 + case["flops"] / (rate * case["length"] / (case["length"] + 2500))


def speed_records() -> list[Record]:
    """Records of kind ``kernel-speed``: flash-attn is not installed, and one of FlexAttention's fails."""
    records = []
    for case in cases():
        if case["implementation"] == "flash-attn":
            outcome = {"status": "unsupported", "reason": "flash-attn is not installed"}
        elif (case["implementation"], case["shape"], case["pattern"]) == ("flex-64", "llama2-70b", "sink"):
            outcome = {"status": "failed", "reason": "OutOfMemoryError: out of memory"}
        else:
            seconds = time_of(case)
            outcome = {"n": 40, "seconds": seconds, "seconds_low": seconds * 0.97, "seconds_high": seconds * 1.02}
            outcome |= {f"{unit}_per_second": case[unit] / seconds for unit in ("flops", "bytes")}
        records.append(KernelSpeedRecord.blank(**case, **outcome))
    limits = [DeviceLimitRecord(**limit) for limit in limit_records()]
    return [row_of(record) for record in derive(records, limits)]


def limit_records() -> list[Record]:
    """Records of kind ``device-limits``."""
    times = {"n": 100, "seconds": 0.00148, "seconds_low": 0.00147, "seconds_high": 0.00149}
    return [
        {"quantity": "copy bandwidth", "unit": "bytes per second", "value": COPY, **times},
        {"quantity": "matrix product", "unit": "operations per second", "value": 7.4e14, **times},
    ]


def check_records() -> list[Record]:
    """Records of kind ``kernel-checks``: one is wrong, one is no number, one was not tried, the others pass."""
    records = []
    for index, dtype in enumerate(("bfloat16", "float16", "float32")):
        for length in (517, 4096):
            tolerance = (1e-2, 2e-3, 1e-4)[index]
            base = {"what": "stride", "shape": "small", "num_heads": 8, "num_kv_heads": 2, "head_dim": 128}
            base |= {"length": length, "pattern": "stride-16", "dtype": dtype, "tolerance": tolerance}
            for tensor in ("output", "grad query", "grad key", "grad value"):
                error = tolerance * (0.3 + 0.01 * len(tensor)) * (1 if length == 517 else 1.1)
                done = {"error": error, "passed": True, "status": "measured", "reason": None}
                records.append(base | {"tensor": tensor} | done)
    records[2] |= {"error": 0.5, "passed": False}
    records[3] |= {"error": None, "passed": False, "status": "failed", "reason": "the result is not a number"}
    records[-1] |= {"error": None, "passed": None, "status": "not measured", "reason": "no time left"}
    return records


def tuning_records() -> list[Record]:
    """Records of kind ``kernel-tuning``."""
    base = {"kernel": "forward", "shape": "llama2-7b", "num_heads": 32, "num_kv_heads": 32, "head_dim": 128}
    base |= {"length": 32768, "pattern": "sink", "dtype": "bfloat16"}
    times = {"n": 9, "seconds": 0.001, "seconds_low": 0.0009, "seconds_high": 0.0011}
    return [
        base | {"queries": queries, "keys": 64, "warps": 8, "stages": 3, "shipped": queries == 128}
        | {"status": "measured", "reason": None, **times}
        for queries in (64, 128)
    ]  # fmt: skip


def attention_speed_records() -> list[Record]:
    """Records of kind ``attention-speed``."""
    ratios = {
        "speedup": 10.0,
        "speedup_low": 9.5,
        "speedup_high": 10.5,
        "ideal_speedup": 16.0,
        "fraction_of_ideal": 0.625,
    }
    base = {"dtype": "float32", "num_heads": 9, "num_kv_heads": 3, "head_dim": 64, "implementation": "blocked"}
    base |= {"length": 32768, "pattern": "sink", "n": 3, "full_seconds": 13.0, "seconds": 1.3}
    base |= {"spread": 0.01, "speedup_spread": 0.01, "load_before": 0.0, "load_after": 0.0, "others": 0.0, "steal": 0.0}
    return [base | {"stage": stage} | ratios for stage in ("forward", "backward", "forward+backward")]


def write_kernel_run(
    folder: Path, change: Callable[[Record], Record] = dict, tiny: bool = False, device: str = GPU
) -> Path:
    """Write every file of such a run into ``folder``; returns it.

    Args:
        folder: of the run.
        change: gives every record of kind ``kernel-speed`` as it is to be written.
        tiny: whether the run says that it only tried itself out.
        device: its name.
    """
    origin = {"git_commit": "abc123", "git_dirty": False, "seed": 0, "date": f"{DAY}T08:00:00+00:00"}
    origin["device"] = {"kind": "cpu" if tiny else "cuda", "name": device}
    kinds = {
        "device-limits": limit_records(),
        "kernel-checks": check_records(),
        "kernel-speed": [change(record) for record in speed_records()],
        "kernel-tuning": tuning_records(),
        "attention-speed": attention_speed_records(),
    }
    sizes = {"heads": ["9/3x64"], "threads": 1}
    for kind, records in kinds.items():
        result = Result(
            kind,
            folder.name,
            records,
            origin,
            settings={"dtype": "bfloat16", "tiny": tiny} | (sizes if kind == "attention-speed" else {}),
        )
        save_result(folder / "kernels" / f"{kind}.json", result)
    return folder
