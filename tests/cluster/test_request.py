"""One request as resources of a job: margins, attempts, limits, and what Slurm's executor makes of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from longgen.cluster import RESOURCES, JobRequest
from longgen.config import ClusterSettings
from longgen.errors import ConfigError
from longgen.gpus import GIB

CLUSTER = ClusterSettings()
PLAIN = JobRequest(seconds=3600, memory=8 * GIB, cpus=2)
TRAINING = JobRequest(seconds=36000, memory=64 * GIB, cpus=8, gpus=4, nodes=2, tasks=8, notice=600)


def asked(request: JobRequest, attempt: int = 1, cluster: ClusterSettings = CLUSTER) -> dict:
    """The resources that are asked for."""
    resources = request.resources(attempt, cluster)
    assert tuple(resources) == RESOURCES
    return {name: value for name, value in resources.items() if value is not None}


def test_a_job_on_processors_alone() -> None:
    # an hour and a half; 8 GiB and a quarter
    assert asked(PLAIN) == {"cpus_per_task": 2, "mem_mb": 10240, "runtime": 90}
    assert asked(JobRequest(1, 1, 1)) == {"cpus_per_task": 1, "mem_mb": 1, "runtime": 20}


def test_a_job_on_a_gpu_names_it() -> None:
    assert asked(JobRequest(3600, 8 * GIB, 8, gpus=1))["gpu"] == 1


def test_training_makes_its_own_step_and_is_told_before_its_time_is_up() -> None:
    assert asked(TRAINING) == {
        "cpus_per_task": 8,
        "mem_mb": 81920,
        "runtime": 900,
        "gres": "gpu:4",
        "nodes": 2,
        "tasks": 8,
        "tasks_per_gpu": 0,
        "mpi": "srun",
        "slurm_extra": "'--ntasks-per-node=4' '--signal=USR1@900'",
    }
    alone = asked(JobRequest(3600, 8 * GIB, 2, tasks=1, notice=1))
    # there, though empty: the executor must not start a step around it
    assert alone["mpi"] == ""
    assert (alone["nodes"], alone["tasks"]) == (1, 1)
    assert not {"gres", "gpu", "tasks_per_gpu"} & alone.keys()


def test_every_attempt_asks_for_more_up_to_the_limits() -> None:
    limited = ClusterSettings(max_runtime=1000, max_memory=100)
    assert [asked(TRAINING, attempt, limited)["runtime"] for attempt in (1, 2, 3)] == [900, 1000, 1000]
    assert [asked(TRAINING, attempt, limited)["mem_mb"] for attempt in (1, 2, 3)] == [81920, 102400, 102400]
    assert [asked(PLAIN, attempt)["mem_mb"] for attempt in (1, 2, 3)] == [10240, 20480, 30720]
    assert [asked(PLAIN, attempt)["runtime"] for attempt in (1, 2, 3)] == [90, 180, 270]


@pytest.mark.parametrize(
    ("notice", "runtime", "seconds"),
    [(None, 60, None), (0.1, 60, 120), (600, 60, 900), (6000, 60, 1200), (0.1, 3, 60)],
)
def test_the_notice_is_long_enough_for_a_step_and_a_checkpoint_and_at_most_a_third_of_the_time(
    notice, runtime, seconds
) -> None:
    assert JobRequest(1, 1, 1, tasks=1, notice=notice).signal_seconds(runtime) == seconds


def test_what_measures_times_has_a_node_for_itself() -> None:
    assert asked(JobRequest(1, 1, 1, exclusive=True))["slurm_extra"] == "'--exclusive'"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpus_per_gpu": 0}, "cpus_per_gpu is 0"),
        ({"utilization": 0.0}, "utilization is 0.0"),
        ({"utilization": 1.5}, "utilization is 1.5"),
        ({"max_runtime": 0}, "max_runtime is 0"),
        ({"max_memory": -1}, "max_memory is -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ClusterSettings(**settings)


class Named(dict):
    """Resources as Snakemake has them, by key and by attribute."""

    __getattr__ = dict.get


def submitted(request: JobRequest) -> str:
    """The command with which Snakemake's executor submits a job."""
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm", reason="the executor for Slurm is not installed")
    job = SimpleNamespace(resources=Named(asked(request)), threads=1)
    params = dict.fromkeys(("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir"), "x")
    plugin.validate_slurm_extra(job)
    return plugin.get_submit_command(job, params) + plugin.set_gres_string(job)


def test_the_executor_for_slurm_understands_it() -> None:
    words = submitted(TRAINING).split()
    assert {
        "--nodes=2",
        "--ntasks=8",
        "--cpus-per-task=8",
        "--gres=gpu:4",
        "'--ntasks-per-node=4'",
        "'--signal=USR1@900'",
    } <= set(words)
    assert words[words.index("--mem") + 1] == "81920"
    assert words[words.index("-t") + 1] == "900"
    assert not any(word.startswith(("--ntasks-per-gpu", "--gpus")) for word in words)
    alone = submitted(JobRequest(1, 1, 2, tasks=1, notice=1)).split()
    assert {"--nodes=1", "--ntasks=1", "--cpus-per-task=2"} <= set(alone)
    assert "--gpus=1" in submitted(JobRequest(1, 1, 8, gpus=1)).split()
