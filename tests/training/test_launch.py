"""Which processes the launcher starts, here and in a Slurm job; Slurm itself is played by small scripts."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import yaml
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from longgen.config import SetupSettings
from longgen.errors import ConfigError
from longgen.training import slurm, torchrun
from longgen.training.launch import local_command, read_words
from tests.experiments import experiment_file, prepare_base, tiny_settings
from tests.processes import command, finished
from tests.training.test_parallel import losses, words

SRUN = """
import json, os, subprocess, sys
options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:] if word.startswith("--n"))
command = sys.argv[sys.argv.index(sys.executable):]
open("srun.json", "w").write(json.dumps(sys.argv[1:sys.argv.index(sys.executable)]))
tasks, nodes = int(options["ntasks"]), int(options["nodes"])
places = [{"SLURM_PROCID": str(i), "SLURM_NTASKS": str(tasks), "SLURM_LOCALID": str(i % (tasks // nodes))}
          for i in range(tasks)]
running = [subprocess.Popen(command, env=os.environ | place) for place in places]
sys.exit(int(os.environ.get("CODE") or max(each.wait() for each in running)))
"""
SQUEUE = 'import sys; print("n[3-4]" if sys.argv[1:4] == ["--noheader", "--jobs", "20012"] else "")'
SCONTROL = """
import os, sys
told = {"hostnames": "n3\\nn4", "node": "NodeName=n3 Arch=x\\n   NodeAddr=127.0.0.1 NodeHostName=n3\\n"}
told["job"] = "PreemptEligibleTime=2026-11-21T19:28:00 PreemptTime=" + os.environ.get("PREEMPTED", "None")
print(*sys.argv[1:], file=open("scontrol.log", "a"))
print(told.get(sys.argv[2], ""))
"""


@pytest.fixture
def in_a_job(tmp_path, monkeypatch):
    """The environment of a job whose Slurm is played."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in (("srun", SRUN), ("squeue", SQUEUE), ("scontrol", SCONTROL)):
        (tools / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(script)}")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "20012")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        (SetupSettings(), "-m longgen train c.yaml --stage base"),
        (SetupSettings(processes=1, device="cuda"), "-m longgen train c.yaml --stage base"),
        (
            SetupSettings(processes=4),
            "-m longgen.training.torchrun --standalone --nproc-per-node 4 -m longgen train c.yaml --stage base",
        ),
    ],
)
def test_on_one_machine_torchrun_starts_as_many_processes_as_there_are_to_be(setup, expected):
    assert local_command(setup, ["c.yaml", "--stage", "base"]) == [sys.executable, *expected.split()]


def test_several_nodes_need_slurm():
    message = "nodes is 2: allowed is 1 outside a Slurm job: `--profile slurm` makes one"
    with pytest.raises(ConfigError, match=message):
        local_command(SetupSettings(processes=4, nodes=2), [])
    with pytest.raises(ConfigError, match="nodes is 3: allowed is a divisor of 4 processes"):
        SetupSettings(processes=4, nodes=3)


def test_the_options_of_training_are_passed_on_and_its_set_up_is_read(tmp_path):
    settings = tiny_settings() | {"setups": {"one": {}, "two": {"processes": 2}}, "setup": "one"}
    config = str(experiment_file(tmp_path, settings))
    given = ["--cpus-per-task", "5", config, "--stage", "base", "--setup", "two", "--rows", "somewhere"]
    assert read_words(given) == (SetupSettings(processes=2), 5, given[2:])
    assert read_words([config, "--stage", "base"]) == (SetupSettings(), None, [config, "--stage", "base"])
    with pytest.raises(ConfigError, match="--setup is 'three': allowed is one, two"):
        read_words([config, "--setup", "three"])


def test_ranks_are_neighbours_on_nodes():
    setup = SetupSettings(processes=64, nodes=8, device="cuda")
    found = slurm.step_command(setup, 8, ["train"])
    assert found[0] == "srun" and found[-1] == "train"
    wanted = "--nodes=8 --ntasks=64 --ntasks-per-node=8 --distribution=block --kill-on-bad-exit=1 --cpus-per-task=8"
    assert set(wanted.split()) <= set(found)


def test_a_process_takes_the_place_that_slurm_gives_it_only_in_a_step_of_ours():
    place = {"SLURM_PROCID": "9", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1"}
    assert slurm.process_environment(place) == {}, "an allocation made by hand, say"
    wanted = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.3", "MASTER_PORT": "12012"}
    assert slurm.process_environment(place | {slurm.RENDEZVOUS: "10.0.0.3:12012"}) == wanted


def test_the_first_node_of_the_job_is_where_the_processes_meet(in_a_job):
    assert slurm.rendezvous("20012") == "127.0.0.1:12012"
    with pytest.raises(ConfigError, match="of which `squeue --noheader --jobs 7 --format %N` knows nothing"):
        slurm.rendezvous("7")


@pytest.mark.slow
def test_two_nodes_of_a_job_train_as_one_process_does(in_a_job):
    settings = tiny_settings()
    settings["base"]["phases"][0] |= {"steps": 12, "batch_size": 4}
    settings["setups"] = {"one": {}, "two-nodes": {"processes": 2, "nodes": 2}}
    settings["setup"] = "two-nodes"
    config = experiment_file(in_a_job, settings)
    prepare_base(config)
    launched = [sys.executable, "-m", "longgen.training.launch", "--cpus-per-task", "1", *words(config, "both")]
    subprocess.run(launched, check=True, capture_output=True)
    assert {"--nodes=2", "--ntasks=2", "--cpus-per-task=1"} <= set(json.loads((in_a_job / "srun.json").read_text()))
    finished(command, "train", *words(config, "alone"), "--setup", "one")
    assert losses(config, "both") == pytest.approx(losses(config, "alone"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "preempted", "asked"),
    [
        (75, "None", True),
        (143, "2026-11-21T19:28:14", True),
        (143, "None", False),
        (1, "2026-11-21T19:28:14", False),
        (0, "None", False),
    ],
)
def test_only_a_run_whose_time_is_up_goes_back_into_the_queue(in_a_job, monkeypatch, code, preempted, asked):
    config = in_a_job / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_settings()))
    monkeypatch.setenv("CODE", str(code))
    monkeypatch.setenv("PREEMPTED", preempted)
    script = "import longgen.training.launch as l; l.SECONDS_TO_BE_ENDED = 0; l.run_program(l.main)"
    outcome = subprocess.run([sys.executable, "-c", script, str(config), "--help"], capture_output=True, text=True)
    assert outcome.returncode == code
    assert ("requeue 20012" in (in_a_job / "scontrol.log").read_text()) == asked
    assert ("goes back into the queue" in outcome.stderr) == asked


@pytest.mark.parametrize(("ended", "code"), [(75, 75), (2, 2), (-9, 137)])
def test_torchrun_ends_as_the_first_process_that_failed(ended, code, monkeypatch, tmp_path):
    def failing():
        failure = ProcessFailure(local_rank=1, pid=1, exitcode=ended, error_file=str(tmp_path / "none"))
        raise ChildFailedError("longgen", {1: failure})

    monkeypatch.setattr("torch.distributed.run.main", failing)
    assert torchrun.main() == code


def test_torchrun_ends_as_a_signal_tells_it(monkeypatch):
    def stopped():
        raise SignalException("SIGTERM", signal.SIGTERM)

    monkeypatch.setattr("torch.distributed.run.main", stopped)
    assert torchrun.main() == 143
