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
import re
from pathlib import Path
from typing import Any

import longgen.passive  # noqa: F401

# isort: split
import torch

from longgen.profiling.inference_speed import InferenceSpeed, check_batch
from longgen.profiling.kernel_checks import KernelChecks
from longgen.profiling.kernel_speed import KernelSpeed, device_limits
from longgen.profiling.kernel_tuning import KernelTuning
from longgen.profiling.session import Budget, Session, Stage
from longgen.profiling.training_speed import TrainingSpeed
from longgen.program import run_program
from longgen.records.schema import FAILED
from longgen.results import RESULTS
from longgen.units import seconds_of_minutes

PARTS = ("checks", "training", "inference", "speed", "tuning")
DEFAULT_PARTS = ("checks", "training", "inference", "speed")
# What is missed most of each comes first, then everything; in these orders.
FIRST, THEN = ("checks", "training", "inference"), ("checks", "tuning", "speed", "training", "inference")


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
    if problem := check_device(options.device) or check_batch(options.batch):
        parser.error(problem)
    return _run(options, Budget(seconds_of_minutes(options.minutes)))


def _run(options: argparse.Namespace, budget: Budget) -> int:
    device, tiny, name = options.device, options.device == "cpu", options.name or default_name(options.device)
    dtype = torch.float32 if tiny else torch.bfloat16
    torch.manual_seed(0)
    limits = device_limits(options.output, name, device, dtype, tiny)
    stages: dict[str, Stage[Any, Any]] = {
        "checks": KernelChecks(device, dtype, tiny),
        "training": TrainingSpeed(device, tiny),
        "inference": InferenceSpeed(device, tiny, batch=options.batch),
        "speed": KernelSpeed(device, dtype, tiny, limits),
        "tuning": KernelTuning(device, dtype, tiny),
    }
    parts = options.only or DEFAULT_PARTS
    sessions = {part: Session(stage, options.output, name, budget) for part, stage in stages.items() if part in parts}
    for part in FIRST:
        if part in parts:
            sessions[part].run(stages[part].first_cases())
    for part in THEN:
        if part in parts:
            sessions[part].run(stages[part].more_cases())
            if table := sessions[part].table():
                print(table, flush=True)
    print(f"results: {options.output / name / 'kernels'}; {max(0.0, budget.left()):.0f} s were left")
    checks = sessions["checks"].records if "checks" in parts else []
    return int(any(record.passed is False or record.status == FAILED for record in checks))


if __name__ == "__main__":
    run_program(main)
