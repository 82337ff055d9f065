"""One command for a GPU: do our attention kernels compute the right thing on this device, and how fast are they?

    python -m longgen.profiling.gpu                       spends at most --minutes
    python -m longgen.profiling.gpu --only checks         numerics alone
    python -m longgen.profiling.gpu --only training       steps of training alone
    python -m longgen.profiling.gpu --only inference      prefill, decoding and memory of whole models alone
    python -m longgen.profiling.gpu --minutes 3           what fits; another call goes on from there

First the kernels are compared with a reference in higher precision at the heads of Llama-2 7B and 128K tokens. Then the
training step of a slice of this model is timed, LongGen against full attention; and prefill and decoding, composed of
slices, and of the whole model where it fits; and how long a context fits: the paper's claims, hence before what
follows. Then every kernel and mode is compared with the reference; and forward, forward + backward and decoding of
attention alone are timed at the heads of Llama-2 7B and 70B, 4K to 128K tokens (1M forward), against PyTorch's dense
attention (flash, cuDNN), flash-attn where it is installed, FlexAttention with the same mask, and what sparsity allows
at best. Last come training and inference at other lengths, and of 70B. Needs none of the pipeline's packages; training
and inference need transformers. Results are JSON files with provenance, see docs/results-format.md; `longgen publish`
makes them published ones; LONGGEN_COMMIT names the commit of sources without git. On a CPU it tries itself out at tiny
sizes.

`--only tuning` times other tile sizes instead.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import longgen.passive  # noqa: F401

# isort: split
import torch

from longgen.orphans import end_with_parent
from longgen.profiling.attention import plan
from longgen.profiling.attention.checks import TENSORS, TOLERANCES, Check, all_checks, is_at_paper_scale
from longgen.profiling.attention.derived import DERIVED, derive
from longgen.profiling.attention.implementations import IMPLEMENTATIONS
from longgen.profiling.attention.limits import measure_limits
from longgen.profiling.attention.session import FAILED, Budget, ResultFile, attempt, is_done
from longgen.profiling.attention.table import checks_table, speed_table
from longgen.profiling.attention.timing import TIMES, time_workload
from longgen.profiling.attention.tuning import tune
from longgen.profiling.attention.workloads import Workload, dtype_name
from longgen.profiling.inference import cases as inference_cases
from longgen.profiling.inference.session import open_inference_file, profile_inference
from longgen.profiling.inference.table import inference_table
from longgen.profiling.training.cases import first_cases, more_cases
from longgen.profiling.training.session import open_training_file, profile_training
from longgen.profiling.training.table import training_table
from longgen.program import run_program
from longgen.progress import progress_bar
from longgen.provenance import provenance
from longgen.results import RESULTS, Result
from longgen.units import seconds_of_minutes

PARTS = ("checks", "training", "inference", "speed", "tuning")
DEFAULT_PARTS = ("checks", "training", "inference", "speed")
CHECK_KEY = ("what", "shape", "num_heads", "num_kv_heads", "head_dim", "length", "pattern", "dtype", "tensor")
SPEED_KEY = ("stage", "shape", "length", "batch", "pattern", "implementation")
WORKERS = 8


def default_name(device: str) -> str:
    """Name of the run: from that of the device."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
    return "kernels-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def check_device(device: str) -> str | None:
    """Why ``device`` cannot be used, in words; None if it can."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        return f"--device is {device!r}: allowed are cpu, cuda and cuda:NUMBER"
    if device != "cpu" and not torch.cuda.is_available():
        return f"--device is {device!r}, and PyTorch sees no GPU: allowed is cpu"
    return None


def run_checks(
    file: ResultFile, device: str, tiny: bool, budget: Budget, wanted: Callable[[Check], bool] = lambda check: True
) -> None:
    """Compare every kernel with a reference, in the checks that are ``wanted``; a record for every tensor compared."""
    found = all_checks(device, tiny)
    asked = [index for index, check in enumerate(found) if wanted(check)]
    left = [index for index in asked if not _is_checked(file, found[index])]
    with ExitStack() as stack:
        small: dict[int, Future[dict[str, float]]] = {}
        if device != "cpu" and any(found[index].small for index in left):
            # most of their time is that of the compiler: several processes
            pool = ProcessPoolExecutor(WORKERS, get_context("spawn"), end_with_parent)
            stack.callback(pool.shutdown, cancel_futures=True)  # what there was no time for must not take any
            small = {index: pool.submit(_errors, index, device) for index in left if found[index].small}
        bar = stack.enter_context(progress_bar(len(asked), "checks", "check", len(asked) - len(left)))
        for index in left:
            check = found[index]
            errors = small[index].result if index in small else check.errors
            outcome = attempt(partial(_measured_errors, errors), ("errors",), budget, 10.0)
            file.drop(_describe_check(check, None), CHECK_KEY[:-1])
            for tensor, error in (outcome.pop("errors") or {None: None}).items():
                file.put(_describe_check(check, tensor) | outcome | _judged(error, TOLERANCES[check.dtype]))
            bar.update()


def _judged(error: float | None, tolerance: float) -> dict[str, Any]:
    if error is None:
        return {"error": None, "passed": None}
    if not math.isfinite(error):  # JSON knows no NaN
        return {"error": None, "passed": False, "status": FAILED, "reason": "the result is not a number"}
    return {"error": error, "passed": error <= tolerance}


def _errors(index: int, device: str) -> dict[str, float]:
    torch.manual_seed(index)
    return all_checks(device, tiny=False)[index].errors()


def _measured_errors(errors: Callable[[], dict[str, float]]) -> dict[str, Any]:
    return {"errors": errors()}


def _describe_check(check: Check, tensor: str | None) -> dict[str, Any]:
    return {
        "what": check.what,
        **check.shape.columns(),
        "length": check.length,
        "pattern": check.pattern,
        "dtype": dtype_name(check.dtype),
        "tensor": tensor,
        "tolerance": TOLERANCES[check.dtype],
    }


def _is_checked(file: ResultFile, check: Check) -> bool:
    return any(is_done(file.find(_describe_check(check, tensor))) for tensor in (*TENSORS, None))


def run_speed(
    file: ResultFile, limits: list[dict[str, Any]], device: str, dtype: torch.dtype, tiny: bool, budget: Budget
) -> None:
    """Time every implementation on every workload."""
    found = list(plan.cases(tiny))
    repetitions = 0.01 if tiny else 0.4
    with progress_bar(len(found), "speed", "case") as bar:
        for workload, name in found:
            base = _describe(workload, name, dtype)
            old = file.find(base)
            if not is_done(old):

                def measure(workload: Workload = workload, name: str = name) -> dict[str, Any]:
                    attention = IMPLEMENTATIONS[name].attention(workload)
                    return asdict(time_workload(attention, workload, device, dtype, repetitions))

                file.put(base | attempt(measure, TIMES, budget, IMPLEMENTATIONS[name].seconds_to_start))
                if device != "cpu":
                    torch.cuda.empty_cache()
            bar.update()
    records = file.result.records
    records[:] = derive(records, limits)
    file.put(records[0])


def _describe(workload: Workload, name: str, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "stage": workload.stage,
        **workload.shape.columns(),
        "dtype": dtype_name(dtype),
        "length": workload.length,
        "batch": workload.batch,
        "pattern": workload.pattern,
        "implementation": name,
        "flops": workload.flops(),
        "bytes": workload.bytes(dtype.itemsize),
        **dict.fromkeys(DERIVED),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run; 1 if a check failed. Raises LongGenError for wrong files or minutes; ends the process for other options."""
    parser = argparse.ArgumentParser(
        prog="python -m longgen.profiling.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", choices=PARTS, action="append", help=f"parts to run; default: {', '.join(DEFAULT_PARTS)}"
    )
    parser.add_argument("--batch", type=int, default=1, help="sequences at a time, of inference (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8.5, help="time to spend (default: %(default)s)")
    parser.add_argument("--name", help="name of the run (default: kernels-DEVICE)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the runs (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if problem := check_device(options.device) or inference_cases.check_batch(options.batch):
        parser.error(problem)
    return _run(options, Budget(seconds_of_minutes(options.minutes)))


def _run(options: argparse.Namespace, budget: Budget) -> int:
    device, tiny = options.device, options.device == "cpu"
    dtype = torch.float32 if tiny else torch.bfloat16
    parts = options.only or DEFAULT_PARTS
    name = options.name or default_name(device)
    settings = {"dtype": dtype_name(dtype), "tiny": tiny}
    origin = provenance(settings, seed=0, device=device)

    def open_file(kind: str, key: tuple[str, ...]) -> ResultFile:
        path = options.output / name / "kernels" / f"{kind}.json"
        return ResultFile.open(path, Result(kind, name, [], origin, settings=settings), key)

    torch.manual_seed(0)
    limits = open_file("device-limits", ("quantity",))
    if not limits.result.records:
        for record in measure_limits(device, dtype, tiny):
            limits.put(record)
    failed = 0
    if "checks" in parts:
        checks = open_file("kernel-checks", CHECK_KEY)
        run_checks(checks, device, tiny, budget, is_at_paper_scale)
    if "training" in parts:
        training = open_training_file(options.output, name, device, tiny)
        profile_training(training, first_cases(tiny), device, budget)
    if "inference" in parts:
        inference = open_inference_file(options.output, name, device, tiny)
        profile_inference(inference, inference_cases.first_cases(tiny, options.batch), device, budget)
    if "checks" in parts:
        run_checks(checks, device, tiny, budget)
        records = checks.result.records
        print(checks_table(records), flush=True)
        failed = sum(record["passed"] is False or record["status"] == FAILED for record in records)
    if "tuning" in parts:
        tuning = open_file(
            "kernel-tuning", ("kernel", "shape", "length", "pattern", "queries", "keys", "warps", "stages")
        )
        tune(tuning, device, dtype, tiny, budget)
    if "speed" in parts:
        speed = open_file("kernel-speed", SPEED_KEY)
        run_speed(speed, limits.result.records, device, dtype, tiny, budget)
        print(speed_table(speed.result.records, limits.result.records), flush=True)
    if "training" in parts:
        profile_training(training, more_cases(tiny), device, budget)
        print(training_table(training.result.records), flush=True)
    if "inference" in parts:
        profile_inference(inference, inference_cases.more_cases(tiny, options.batch), device, budget)
        print(inference_table(inference.result.records), flush=True)
    print(f"results: {options.output / name / 'kernels'}; {max(0.0, budget.left()):.0f} s were left")
    return int(failed > 0)


if __name__ == "__main__":
    run_program(main)
