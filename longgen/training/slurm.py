"""Slurm: a job step with a process per GPU on all nodes of an allocation, and where its processes find each other.

Slurm starts the processes itself, without torchrun: its signals reach them, they have minutes to write a checkpoint
(torchrun's agent ends them half a minute after it was signalled), and their exit code is that of the job step.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from longgen.config import SetupSettings
from longgen.errors import ConfigError

JOB = "SLURM_JOB_ID"  # in the environment of whatever runs within an allocation
RENDEZVOUS = "LONGGEN_RENDEZVOUS"  # host:port, for the processes of a step

# Ports of rendezvous, by job: below those that Linux hands out by itself.
FIRST_PORT, PORTS = 12000, 20000


def step_command(setup: SetupSettings, cpus_per_task: int | None, words: Sequence[str]) -> list[str]:
    """The command that runs ``words`` once per process of ``setup`` in the allocation that this process is in."""
    processes = setup.processes or 1
    options = [f"--nodes={setup.nodes}", f"--ntasks={processes}", f"--ntasks-per-node={processes // setup.nodes}"]
    # Neighbouring ranks on one node, as they share rows of tokens; and none goes on without the others.
    options += ["--distribution=block", "--kill-on-bad-exit=1"]
    # The job's processors are the step's, whoever else has a step in an allocation made by hand.
    options += ["--overlap"] + ([f"--cpus-per-task={cpus_per_task}"] if cpus_per_task else [])
    return ["srun", *options, *words]


def rendezvous(job: str) -> str:
    """``host:port`` of the first process of job ``job``: the address at which Slurm itself finds its first node.

    Raises:
        ConfigError: Slurm does not know the job.
    """
    nodes = _output_of("squeue", "--noheader", "--jobs", job, "--format", "%N")
    first = _output_of("scontrol", "show", "hostnames", nodes).split()[0]
    address = re.search(r"NodeAddr=(\S+)", _output_of("scontrol", "show", "node", first))
    number = int(re.match(r"\d+", job).group())  # type: ignore[union-attr]
    return f"{address[1] if address else first}:{FIRST_PORT + number % PORTS}"


def is_preempted(job: str) -> bool:
    """Whether Slurm is about to take the machines from the job for another one, and has given it time to end."""
    return re.search(r"PreemptTime=\d", _output_of("scontrol", "show", "job", job)) is not None


def requeue(job: str) -> bool:
    """Put the job that this process is part of back into the queue, which ends it; False if Slurm refuses."""
    return subprocess.run(["scontrol", "requeue", job]).returncode == 0


def process_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What PyTorch wants in the environment of a process that `step_command` started; nothing in any other process."""
    if RENDEZVOUS not in environment:
        return {}
    host, port = environment[RENDEZVOUS].rsplit(":", 1)
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
    }


def _output_of(*words: str) -> str:
    try:
        output = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"{JOB} is {os.environ.get(JOB)!r}, and `{' '.join(words)}` failed: {error}") from None
    if not output:
        raise ConfigError(f"{JOB} is {os.environ.get(JOB)!r}, of which `{' '.join(words)}` knows nothing")
    return output
