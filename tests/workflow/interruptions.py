"""A run that is interrupted at random moments ends with the numbers of one that is not: `make kill-test`.

Every moment gets another of the ways in which runs end early: Ctrl-C, a closed terminal and a shutdown reach all
processes, ``kill -9`` Snakemake alone or all of them. (``kill`` of Snakemake alone would let the jobs that run end as
they do.) What is left behind must end by itself, and the same command must go on. Takes as long as the run and some
minutes, so it is no part of `make test`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from longgen.config import load_experiment
from longgen.tables import Table
from tests.workflow.test_workflow import working_copy

ALL, SNAKEMAKE = "all processes", "Snakemake alone"
ENDS = [
    (signal.SIGINT, ALL),
    (signal.SIGKILL, SNAKEMAKE),
    (signal.SIGTERM, ALL),
    (signal.SIGHUP, ALL),
    (signal.SIGKILL, ALL),
]
# What is measured with a clock, or read from it, is another number each time.
TIMED = {"seconds", "tokens_per_second"}
LOG = "interruptions.log"
PATIENCE = 60  # seconds until all that was killed must be gone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config/smoke.yaml"), help="of a run that is done")
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=12.0, help="that the run takes if it is let alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # a shell's background job, or nohup, has these ignored, and so would have all that it starts
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    results = Path("results") / load_experiment(options.config).name
    if not results.is_dir():
        parser.error(f"{results} is missing: `make run EXPERIMENT={options.config}` makes what is compared with")
    with tempfile.TemporaryDirectory() as folder:
        return interrupt_often(working_copy(Path(folder)), options, results)


def interrupt_often(folder: Path, options: argparse.Namespace, expected: Path) -> int:
    """Make the run in ``folder``, interrupted; 0 if it ends with the numbers in the folder ``expected``."""
    chosen = random.Random(options.seed)
    moments = sorted(chosen.uniform(0, 60 * options.minutes) for _ in range(options.moments))
    table, done = Table(("signal", "to", "at work"), ("second", "gone after")), 0.0
    for number, moment in enumerate(moments):
        end, whom = ENDS[number % len(ENDS)]
        at_work, gone = interrupted(folder, options.config, moment - done, end, whom)
        print(f"{end.name} to {whom} after {moment:.0f} s, at work: {at_work}", flush=True)
        table.add(end.name, whom, at_work, f"{moment:.0f}", f"{gone:.1f} s")
        done = moment
    code = run(folder, options.config).wait()
    table.print()
    if code:
        print((folder / LOG).read_text("utf-8"))
        print(f"the last run ended with exit code {code}")
        return 1
    differences = compare(expected, folder / expected)
    print("\n".join(differences) or "the same numbers as of the run that was not interrupted")
    return bool(differences)


def run(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "snakemake", "--cores", "all", "--config", f"experiment={config}", "select=default"]
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(words, cwd=folder, start_new_session=True, stdout=log, stderr=subprocess.STDOUT)


def interrupted(folder: Path, config: Path, seconds: float, end: signal.Signals, whom: str) -> tuple[str, float]:
    """Run for ``seconds``, from the first job on; what was at work then, and how long it took to be gone."""
    started = run(folder, config)
    process = psutil.Process(started.pid)
    while started.poll() is None and not jobs(process):
        time.sleep(0.1)
    end_of_wait = time.monotonic() + seconds
    while started.poll() is None and time.monotonic() < end_of_wait:
        time.sleep(0.1)
    if started.poll() is not None:
        return f"nothing: it ended before, with exit code {started.returncode}", 0.0
    family = [process, *process.children(recursive=True)]
    at_work = ", ".join(sorted({job for each in family if (job := job_name(each))})) or "Snakemake"
    if whom == ALL:
        os.killpg(process.pid, end)
    else:
        process.send_signal(end)
    sent = time.monotonic()
    _, alive = psutil.wait_procs(family, PATIENCE)
    if alive:
        raise SystemExit(f"after {PATIENCE} s there are still: {[' '.join(each.cmdline()) for each in alive]}")
    return at_work, time.monotonic() - sent


def jobs(process: psutil.Process) -> list[str]:
    return [name for each in process.children(recursive=True) if (name := job_name(each))]


def job_name(process: psutil.Process) -> str:
    """The verb of `longgen` that a process runs, or the module."""
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
    for place, word in enumerate(words[:-1]):
        if word.endswith("/longgen"):
            return " ".join(each for each in words[place + 1 : place + 3] if each.isalpha())
        if word == "-m" and words[place + 1 : place + 3] == ["longgen", "train"]:
            variant = words[words.index("--variant") + 1] if "--variant" in words else "base"
            return f"train {variant}"
    return ""


def compare(expected: Path, results: Path) -> list[str]:
    """What differs in the records of two folders of results, times aside; profiles are nothing but times."""
    differences = []
    files = {path.relative_to(folder) for folder in (expected, results) for path in folder.rglob("*.json")}
    compared = 0
    for file in sorted(files):
        if file.parts[0] == "profile":
            continue
        if not (expected / file).exists() or not (results / file).exists():
            differences.append(f"{file}: in one of the two alone")
            continue
        first, second = (records(folder / file) for folder in (expected, results))
        compared += len(first)
        if first != second:
            differences.append(f"{file}: {sum(a != b for a, b in zip(first, second, strict=False))} records differ")
    return differences if compared else ["there is nothing to compare"]


def records(path: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in record.items() if key not in TIMED}
        for record in json.loads(path.read_text("utf-8"))["records"]
    ]


if __name__ == "__main__":
    sys.exit(main())
