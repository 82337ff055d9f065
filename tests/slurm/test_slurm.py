"""The profile `slurm`, and training, on a real Slurm: a throw-away one. What docs/cluster.md says happens, happens.

All in one file: its tests share the Slurm, and what takes long runs beside the others.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.experiments import experiment_file, prepare_base, tiny_settings
from tests.processes import command, finished
from tests.slurm.cluster import FEATURE, Slurm, call, throwaway_slurm, why_not
from tests.training.test_parallel import losses, words
from tests.waiting import PATIENCE, wait_until
from tests.workflow.test_workflow import ROOT, working_copy

REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=f"no Slurm here: {REASON}")]

PIPELINE = ["--config", "experiment=toy.yaml", "--set-resources", "perplexity:gpu=1"]
# what one node makes, another one reads
PIPELINE += [f"{rule}:slurm_extra='--nodelist={node}'" for rule, node in (("corpus", "n1"), ("perplexity", "n2"))]
# Snakemake, asking every second how jobs do: the plugin waits ten seconds longer each time that none has ended.
IMPATIENT = """
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
main()
"""


@dataclass
class Run:
    """A Snakemake with our profile in a folder, on the Slurm."""

    slurm: Slurm
    folder: Path
    process: subprocess.Popen

    @property
    def output(self) -> str:
        return (self.folder / "output.log").read_text()

    @property
    def name(self) -> str:
        """Of its jobs; empty before it has one."""
        return "".join(re.findall(r"SLURM run ID: (\S+)\n", self.output))

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """Slurm's records of its jobs, of a rule or of all, as they were submitted."""
        jobs = [job for job in self.slurm.jobs().values() if job["JobName"] == self.name]
        return [job for job in jobs if rule in ("", rule_of(job))]

    def end(self, code: int = 0) -> str:
        """What it said, when it has ended with that exit code."""
        assert self.process.wait(timeout=PATIENCE) == code, self.output
        return self.output


def rule_of(job: dict[str, str]) -> str:
    return job["Comment"].removeprefix("rule_").partition("_wildcards_")[0]


def _hear_ctrl_c() -> None:
    """For a child: what is started in the background of a script ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def snakemake(slurm: Slurm, folder: Path, *given: str, impatient: bool = False, **environment: str) -> Iterator[Run]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = [sys.executable, "-c", IMPATIENT] if impatient else ["snakemake"]
    with (folder / "output.log").open("w") as log:
        process = subprocess.Popen(
            [*program, "--cores", "all", "--profile", "slurm", *given],
            cwd=folder,
            env=os.environ | {"PATH": path, "LONGGEN_SLURM_POLL": "1"} | environment,
            stdout=log,
            stderr=log,
            preexec_fn=_hear_ctrl_c,
        )
    try:
        yield Run(slurm, folder, process)
    finally:
        process.kill()
        process.wait()


def with_profile(folder: Path) -> Path:
    """A project of tests/slurm/jobs.smk and our profile."""
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    shutil.copy(Path(__file__).with_name("jobs.smk"), folder / "Snakefile")
    return folder


@pytest.fixture(scope="module")
def slurm():
    with throwaway_slurm() as slurm:
        yield slurm


@pytest.fixture(scope="module", autouse=True)
def background(slurm, tmp_path_factory):
    """The long runs, side by side: jobs of all kinds, and the pipeline."""
    jobs = with_profile(tmp_path_factory.mktemp("jobs"))
    # the plugin asks which accounts there are; this Slurm has no database that would know
    (jobs / "sacctmgr").write_text("#!/bin/sh\necho project\n")
    (jobs / "sacctmgr").chmod(0o755)
    environment = {
        "LONGGEN_SLURM_ACCOUNT": "project",
        "LONGGEN_SLURM_PARTITION": "gpu",
        "LONGGEN_SLURM_CONSTRAINT": FEATURE,
        "PATH": f"{jobs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    targets = ["here", "unlucky", "slow", "hopeless"]
    pipeline = working_copy(tmp_path_factory.mktemp("pipeline"))
    settings = tiny_settings() | {"default_variants": ["full"], "setup": "nodes"}
    needle = {"samples": 1, "lengths": [512], "tasks": ["keys"], "depths": [0.5]}
    perplexity = settings["benchmarks"]["perplexity"]
    settings["benchmarks"] = {"suites": {"needle": needle}, "perplexity": perplexity, "shards": 2}
    settings["setups"] = {"nodes": {"processes": 2, "nodes": 2, "sequence_parallel": 2}}
    del settings["profiling"]
    (pipeline / "toy.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    with (
        snakemake(slurm, jobs, *targets, impatient=True, **environment) as jobs_run,
        snakemake(slurm, pipeline, *PIPELINE, impatient=True) as pipeline_run,
    ):
        yield {"jobs": jobs_run, "pipeline": pipeline_run}


def test_ctrl_c_ends_the_jobs_and_a_killed_run_leaves_them_to_be_found(slurm, tmp_path):
    folder = with_profile(tmp_path)

    def begin(run: Run) -> str:
        """Wait until its job runs; its id."""
        wait_until(lambda: "has been submitted with SLURM jobid" in run.output, "no job")
        (job,) = run.jobs()
        wait_until(lambda: slurm.jobs()[job["JobId"]]["JobState"] == "RUNNING", "the job does not begin")
        return job["JobId"]

    # the jobs that Snakemake is asking about are not among those that it cancels: it is not to ask just then
    with snakemake(slurm, folder, "patient", LONGGEN_SLURM_POLL="30") as run:
        job = begin(run)
        run.process.send_signal(signal.SIGINT)
        run.end(1)
        wait_until(lambda: slurm.jobs()[job]["JobState"] == "CANCELLED", "its job goes on")
    with snakemake(slurm, folder, "patient") as run:
        begin(run)
        run.process.kill()
        run.process.wait()
        name = run.name
    assert name.startswith("longgen_")
    found = call("squeue", "--me", "--states=RUNNING", "--noheader", "--format", "%j %k").splitlines()
    assert f"{name} rule_patient" in found
    call("scancel", "--name", name)
    wait_until(lambda: not call("squeue", "--noheader", "--name", name), "its job goes on")
    (folder / "go").touch()
    with snakemake(slurm, folder, "--unlock") as run:
        run.end()
    with snakemake(slurm, folder, "patient") as run:
        assert "1 of 1 steps (100%) done" in run.end()
    assert (folder / "patient.txt").exists()


def test_training_on_two_nodes_whose_time_is_up_and_that_is_preempted_ends_as_one_process_does(slurm, tmp_path):
    settings = tiny_settings()
    phase = {"length": 64, "batch_size": 4, "steps": 250, "learning_rate": 3e-4, "mixture": {"text": 0.5, "pairs": 0.5}}
    settings["base"] = {"phases": [phase], "checkpoint_every": 1000}  # none that the signal does not ask for
    settings["setups"] = {"nodes": {"processes": 2, "nodes": 2, "sequence_parallel": 2}, "alone": {}}
    settings["setup"] = "alone"
    config = experiment_file(tmp_path, settings)
    prepare_base(config)
    given = [*words(config, "nodes"), "--setup", "nodes", "--metrics", str(tmp_path / "metrics")]
    launched = f"{sys.executable} -m longgen.training.launch --cpus-per-task 1 {' '.join(given)}"
    asked = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--mem=4000", "--requeue", "--open-mode=append"]
    asked += ["--gres=gpu:2"]  # all there are, so that another job has to take them
    job = call("sbatch", "--parsable", *asked, f"--output={tmp_path}/log", f"--wrap={launched}").strip()
    log, metrics = tmp_path / "log", tmp_path / "metrics" / "metrics.jsonl"

    def steps() -> int:
        return metrics.read_text().count("\n") if metrics.exists() else 0

    def ended() -> bool:
        return slurm.jobs()[job]["JobState"] in ("COMPLETED", "FAILED")

    wait_until(lambda: steps() >= 3 or ended(), "no step was made")
    call("scancel", "--signal=USR1", job)
    wait_until(lambda: slurm.jobs()[job]["Restarts"] == "1" or ended(), log.read_text)
    done = steps()
    wait_until(lambda: steps() >= done + 3 or ended(), "it did not go on")
    more = ["--partition=urgent", "--nodes=2", "--gres=gpu:2", "--output=/dev/null"]
    urgent = call("sbatch", "--parsable", *more, "--wrap=true").strip()
    wait_until(lambda: slurm.jobs()[urgent]["JobState"] == "COMPLETED", "it did not give way")
    wait_until(ended, log.read_text)
    record = slurm.jobs()[job]
    assert record["JobState"] == "COMPLETED" and record["Restarts"] == "2", log.read_text()
    assert record["NumNodes"] == "2" and record["NodeList"] == "n[1-2]"
    assert "stopped by SIGUSR1 after step" in log.read_text() and "stopped by SIGTERM after step" in log.read_text()
    finished(command, "train", *words(config, "alone"))
    assert losses(config, "nodes") == pytest.approx(losses(config, "alone"), rel=1e-5)
    wanted, found = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "nodes"))
    for name, weight in wanted.items():
        # of the whole: where a gradient is next to nothing, Adam steps by what is rounding, and that is the machine's
        assert torch.linalg.vector_norm(found[name] - weight) <= 1e-3 * torch.linalg.vector_norm(weight), name


def test_a_job_has_what_it_asked_for_and_a_local_rule_is_no_job(background):
    background["jobs"].end(1)
    job, *again = background["jobs"].jobs("good")
    assert not again and job["JobState"] == "COMPLETED"
    assert job["Account"] == "project" and job["Partition"] == "gpu" and job["Features"] == FEATURE
    assert job["TresPerJob"] == "gres:gpu:2" and job["CPUs/Task"] == "3" and job["MinMemoryNode"] == "4000M"
    assert job["TimeLimit"] == "01:00:00"
    assert (background["jobs"].folder / "good.txt").read_text().split() == [job["JobId"], "0,1", "3"]
    assert not background["jobs"].jobs("here")
    assert (background["jobs"].folder / "here.txt").read_text() == "no job\n"


def test_a_job_that_fails_is_tried_three_times_with_more_each_time_and_its_log_is_shown(background):
    output = background["jobs"].end(1)
    failed = background["jobs"].jobs("hopeless")
    assert [job["JobState"] for job in failed] == ["FAILED"] * 3
    assert [job["MinMemoryNode"] for job in failed] == ["4000M", "8000M", "12000M"]
    assert [job["TimeLimit"] for job in failed] == ["01:00:00", "02:00:00", "03:00:00"]
    assert output.count("Error in rule hopeless:\n    message: SLURM-job") == 3
    assert re.search(r"Logfile hopeless\.log:\n=+\nwoe is me\n", output)
    for job in failed:
        assert Path(job["StdOut"]).relative_to(background["jobs"].folder).match("artifacts/slurm-logs/rule_hopeless/*")
    assert "died with <Signals.SIGKILL: 9>" in Path(failed[0]["StdOut"]).read_text()


def test_a_job_that_is_cancelled_or_has_too_little_memory_is_made_again_with_more(background):
    background["jobs"].end(1)
    cancelled, killed, made = background["jobs"].jobs("unlucky")
    assert cancelled["JobState"] == "CANCELLED"
    assert killed["JobState"] == "FAILED"
    assert re.search(r"StepId=\S+ exceeded memory limit", Path(killed["StdOut"]).read_text())
    assert made["JobState"] == "COMPLETED"
    assert [job["MinMemoryNode"] for job in (cancelled, killed, made)] == ["600M", "1200M", "1800M"]


def test_a_job_whose_time_is_up_is_made_again_with_more(background):
    background["jobs"].end(1)
    ended, made = background["jobs"].jobs("slow")
    # if it has ended by the signal before Slurm looks, it counts as one that failed
    assert ended["JobState"] in ("TIMEOUT", "FAILED") and made["JobState"] == "COMPLETED"
    assert made["TimeLimit"] == "02:00:00"


def test_the_pipeline_runs_to_its_end_on_two_nodes_and_a_second_run_does_nothing(slurm, background):
    pipeline = background["pipeline"]
    ran = re.findall(r"^(local)?rule (\w+):", pipeline.end(), re.MULTILINE)
    jobs = pipeline.jobs()
    assert Counter(map(rule_of, jobs)) == Counter(rule for local, rule in ran if not local)
    assert {"corpus", "base", "extend", "perplexity", "answer"} <= set(map(rule_of, jobs))
    assert {"plan", "score"} <= {rule for local, rule in ran if local}
    assert len(pipeline.jobs("answer")) == 2, "two shards"
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    assert (pipeline.jobs("corpus")[0]["NodeList"], pipeline.jobs("perplexity")[0]["NodeList"]) == ("n1", "n2")
    assert [job["NodeList"] for job in (*pipeline.jobs("base"), *pipeline.jobs("extend"))] == ["n[1-2]"] * 2
    assert [job["TresPerJob"] for job in pipeline.jobs("perplexity")] == ["gres:gpu:1"]
    results = pipeline.folder / "results" / "tiny"
    assert {path.parent.name for path in results.rglob("perplexity.json")} == {"full"}
    assert {path.parent.name for path in results.rglob("scores.json")} == {"full"}
    with snakemake(slurm, pipeline.folder, *PIPELINE) as again:
        assert "Nothing to be done" in again.end()


def test_everything_listens_on_loopback_alone(slurm):
    processes = [psutil.Process(each.pid) for each in slurm.daemons]
    listening = [at.laddr.ip for each in processes for at in each.net_connections() if at.status == psutil.CONN_LISTEN]
    assert len(listening) == 3 and set(listening) == {"127.0.0.1"}
