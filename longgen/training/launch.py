"""`longgen train` on as many processes as its set-up says, wherever it is started.

    python -m longgen.training.launch CONFIG --stage extension --setup 32-gpus ...

takes the options of `longgen train`. Within a Slurm job it starts the processes on the nodes of the allocation;
elsewhere torchrun starts them on this machine, unless there is but one. `--cpus-per-task N` says how many processors
each gets from Slurm.

When Slurm says that time will soon be up (SIGUSR1), or pre-empts the job (SIGTERM), training stops with a checkpoint,
and the job goes back into the queue.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import longgen.passive  # noqa: F401
from longgen.config import SetupSettings, load_experiment
from longgen.errors import TO_BE_CONTINUED
from longgen.orphans import ENDS_WITH
from longgen.program import run_program
from longgen.strict import require
from longgen.training import slurm

TRAIN = ("longgen", "train")  # of `python -m`
SECONDS_TO_BE_ENDED = 120  # by Slurm, when the job is in the queue again
# For glibc: it returns large blocks to the system and has them anew, zeroed page by page, in each layer of each step.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}


def read_words(words: Sequence[str]) -> tuple[SetupSettings, int | None, list[str]]:
    """The set-up that ``words`` ask for, ``--cpus-per-task``, and the words of `longgen train`.

    Raises:
        ConfigError: as `load_experiment`, or there is no such set-up.
    """
    parser = argparse.ArgumentParser(
        "python -m longgen.training.launch", description=__doc__, add_help=False, allow_abbrev=False
    )
    parser.add_argument("--cpus-per-task", type=int)
    own_options, rest = parser.parse_known_args(words)
    parser.add_argument("config")
    parser.add_argument("--setup")
    train_options, _ = parser.parse_known_args(rest)
    experiment = load_experiment(train_options.config)
    return experiment.setup_named(train_options.setup), own_options.cpus_per_task, rest


def local_command(setup: SetupSettings, words: Sequence[str]) -> list[str]:
    """The command that trains on this machine. Raises ConfigError if the set-up takes several."""
    require(setup.nodes == 1, "nodes", setup.nodes, "1 outside a Slurm job: `--profile slurm` makes one")
    python = [sys.executable, "-m"]
    if setup.processes in (None, 1):
        return [*python, *TRAIN, *words]
    count = ["--standalone", "--nproc-per-node", str(setup.processes)]
    return [*python, "longgen.training.torchrun", *count, "-m", *TRAIN, *words]


def run_step(job: str, setup: SetupSettings, cpus_per_task: int | None, words: Sequence[str]) -> int:
    """Train in an allocation of Slurm; the exit code of the processes."""
    command = slurm.step_command(setup, cpus_per_task, [sys.executable, "-m", *TRAIN, *words])
    # The processes are told to stop themselves: this one waits for what they make of it.
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # Slurm ends the processes of a job; those that are named are on this node alone
    environment = {name: value for name, value in os.environ.items() if name != ENDS_WITH}
    code = subprocess.run(command, env=environment | {slurm.RENDEZVOUS: slurm.rendezvous(job)}).returncode
    time_is_up = code == TO_BE_CONTINUED or (code == 128 + signal.SIGTERM and slurm.is_preempted(job))
    if time_is_up:
        # said first: what is in the queue again may be ended at once
        print(f"job {job} goes back into the queue, to go on from its checkpoint", file=sys.stderr, flush=True)
        if slurm.requeue(job):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(SECONDS_TO_BE_ENDED)
    return code


def main() -> int:
    """Entry point; the exit code of the training processes."""
    setup, cpus_per_task, words = read_words(sys.argv[1:])
    if setup.device == "cpu":
        for name, value in KEEP_MEMORY.items():
            os.environ.setdefault(name, value)
    job = os.environ.get(slurm.JOB)
    if job is None:
        command = local_command(setup, words)
        # what becomes of this process; if that is torchrun, its workers
        os.environ[ENDS_WITH] = ",".join(filter(None, [os.environ.get(ENDS_WITH), str(os.getpid())]))
        os.execv(command[0], command)
    return run_step(job, setup, cpus_per_task, words)


if __name__ == "__main__":
    run_program(main)
