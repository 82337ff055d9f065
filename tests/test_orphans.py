"""What works for a process that is killed ends with it: every case with a real SIGKILL."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from longgen.orphans import ENDS_WITH, end_with_parent, end_with_starter
from longgen.workflow.lock import HOLDER, LOCKS
from tests.processes import started
from tests.waiting import PATIENCE, runs, wait_until
from tests.workflow.test_workflow import ROOT

# A rule whose command kills Snakemake, and then waits for its own end, as every command of ours does.
SNAKEFILE = """
include: "{root}/workflows/rules/common.smk"


rule all:
    output:
        "made.txt",
    params:
        program="import os, signal, longgen.orphans as o; o.end_with_starter(); open(\\"made.txt\\", \\"w\\"); "
        "os.kill(int(os.environ[o.ENDS_WITH]), signal.SIGKILL); signal.pause()",
    shell:
        "python -c '{{params.program}}'"
"""


def waits(named: str) -> None:
    end_with_starter({ENDS_WITH: named})
    signal.pause()


def asleep() -> subprocess.Popen:
    return subprocess.Popen(["sleep", "infinity"])


@pytest.mark.slow
def test_a_command_ends_with_any_process_that_is_named():
    first, second = asleep(), asleep()
    process = started(waits, f"{first.pid},{second.pid}")
    assert runs(process.pid)
    second.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    first.kill()
    for each in (first, second):
        each.wait()
    process = started(waits, str(first.pid))  # gone before
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_without_a_name_a_process_goes_on_and_so_does_the_one_that_is_named():
    for environment in ({}, {ENDS_WITH: ""}, {ENDS_WITH: str(os.getpid())}):
        process = started(end_with_starter, environment)
        process.join()
        assert process.exitcode == 0


def dies_while_its_worker_starts(report) -> None:
    """As torchrun that is killed before its worker has imported anything."""
    parent = os.getpid()
    if os.fork():
        os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        pass
    report.put((os.getpid(), os.getppid()))
    end_with_starter({"TORCHELASTIC_RUN_ID": "none"})
    signal.pause()


@pytest.mark.skipif(not Path("/proc/1/cmdline").exists(), reason="no /proc")
def test_a_worker_whose_torchrun_was_gone_before_it_looked_ends():
    report = multiprocessing.get_context("forkserver").SimpleQueue()
    process = started(dies_while_its_worker_starts, report)
    worker, parent = report.get()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    adopter = Path(Path(f"/proc/{parent}/cmdline").read_text().split("\0")[0]).name
    if adopter.startswith("python"):
        os.kill(worker, signal.SIGKILL)
        pytest.skip(f"orphans go to {adopter} here, which might be torchrun")
    wait_until(lambda: not runs(worker), "the worker goes on")
    assert not runs(worker)


def starts_a_worker(report) -> None:
    multiprocessing.get_context("fork").Process(target=works, args=(report,)).start()
    signal.pause()


def works(report) -> None:
    end_with_parent()
    report.put(os.getpid())
    signal.pause()


def test_workers_of_multiprocessing_end_with_their_parent():
    report = multiprocessing.get_context("forkserver").SimpleQueue()
    process = started(starts_a_worker, report)
    worker = report.get()
    assert runs(worker)
    process.kill()
    process.join()
    wait_until(lambda: not runs(worker), "the worker goes on")


def snakemake(folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["-m", "snakemake", "--cores", "1", "--config", f"experiment={ROOT / 'config' / 'smoke.yaml'}"]
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=PATIENCE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_jobs_end_with_snakemake_and_the_next_run_goes_on(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(root=ROOT))
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    killed = snakemake(tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stdout  # and nobody holds the other end of the pipe
    locks = list((tmp_path / LOCKS).iterdir())
    assert locks, "a killed Snakemake leaves its lock"
    assert (tmp_path / "made.txt").exists(), "and what its job had begun"
    text = (tmp_path / "Snakefile").read_text()
    (tmp_path / "Snakefile").write_text(text.replace("python -c '{params.program}'", "touch {output}"))
    # it stays while a run works here, be it one that has noted nothing yet, and where jobs may go on elsewhere
    noted = json.loads((tmp_path / HOLDER).read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "snakemake").write_text("import time; time.sleep(1e6)")
    alive = subprocess.Popen([sys.executable, "bin/snakemake"], cwd=tmp_path)
    try:
        assert "cannot be locked" in snakemake(tmp_path).stdout
        holder = {"process": alive.pid, "began": psutil.Process(alive.pid).create_time()}
        (tmp_path / HOLDER).write_text(json.dumps(noted | holder))
        refused = snakemake(tmp_path)
        assert refused.returncode == 1
        assert f"The run of process {alive.pid} works in this folder" in refused.stdout
    finally:
        alive.kill()
        alive.wait()
    for other in (json.dumps(noted | {"host": "elsewhere"}), json.dumps(noted | {"jobs_here": False}), "", "[]"):
        (tmp_path / HOLDER).write_text(other)
        assert "cannot be locked" in snakemake(tmp_path).stdout
    (tmp_path / HOLDER).write_text(json.dumps(noted))
    (tmp_path / "snakemake.log").touch()
    logged = subprocess.Popen(["tail", "-f", "snakemake.log"], cwd=tmp_path, stderr=subprocess.DEVNULL)  # is none
    again = snakemake(tmp_path)
    logged.kill()
    logged.wait()
    assert again.returncode == 0, again.stdout
    assert f"The run of process {noted['process']} was killed" in again.stdout
    assert "1 of 1 steps (100%) done" in again.stdout
