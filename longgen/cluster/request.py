"""What one job requests of the cluster, in the words of Snakemake's executor for Slurm."""

from __future__ import annotations

import math
from dataclasses import dataclass

from longgen.cluster.assumptions import (
    LONGEST_NOTICE_SHARE,
    MEMORY_MARGIN,
    SHORTEST_NOTICE,
    SHORTEST_SECONDS,
    TIME_MARGIN,
)
from longgen.config import ClusterSettings

MIB = 2**20

# Names of all resources that `JobRequest.resources` sets.
RESOURCES = (
    *("cpus_per_task", "mem_mb", "runtime", "gpu", "gres"),
    *("nodes", "tasks", "tasks_per_gpu", "mpi", "slurm_extra"),
)


@dataclass(frozen=True)
class JobRequest:
    """What a job is predicted to need, without margins.

    Attributes:
        seconds: of its work, its start included.
        memory: bytes of main memory on each node.
        cpus: of each task.
        gpus: on each node.
        gpu_memory: bytes on each GPU; 0 where there is none.
        nodes: machines.
        tasks: processes, over all nodes, which the job starts in a step of its own; None: there is but one.
        notice: seconds from being told to stop to having stopped; None: the job is not told.
        exclusive: nothing else may run on its nodes, as it measures times.
    """

    seconds: float
    memory: int
    cpus: int
    gpus: int = 0
    gpu_memory: int = 0
    nodes: int = 1
    tasks: int | None = None
    notice: float | None = None
    exclusive: bool = False

    def runtime(self, attempt: int = 1, max_runtime: int | None = None) -> int:
        """Minutes to request: the predicted time with its margin, times ``attempt``, at most ``max_runtime``."""
        minutes = attempt * math.ceil(max(SHORTEST_SECONDS, TIME_MARGIN * self.seconds) / 60)
        return minutes if max_runtime is None else min(minutes, max_runtime)

    def signal_seconds(self, runtime: int) -> int | None:
        """How many seconds before the end of ``runtime`` minutes the job is told to stop; None if it is not."""
        if self.notice is None:
            return None
        seconds = max(SHORTEST_NOTICE, math.ceil(TIME_MARGIN * self.notice))
        return min(seconds, int(LONGEST_NOTICE_SHARE * 60 * runtime))

    def resources(self, attempt: int, cluster: ClusterSettings) -> dict[str, int | str | None]:
        """Values of all `RESOURCES` in an attempt, counted from 1; None where one is not requested.

        In Slurm's units: ``mem_mb`` in MiB and per node, ``runtime`` in minutes. Where ``mpi`` is there, the job
        makes its own step; its value says whether that has several tasks.
        """
        runtime = self.runtime(attempt, cluster.max_runtime)
        memory = attempt * math.ceil(MEMORY_MARGIN * self.memory / MIB)
        values: dict[str, int | str | None] = dict.fromkeys(RESOURCES)
        values["cpus_per_task"] = self.cpus
        values["mem_mb"] = memory if cluster.max_memory is None else min(memory, 1024 * cluster.max_memory)
        values["runtime"] = runtime
        extra = ["--exclusive"] if self.exclusive else []
        if self.tasks is None:
            values["gpu"] = self.gpus or None
        else:
            values |= {"nodes": self.nodes, "tasks": self.tasks, "mpi": "srun" if self.tasks > 1 else ""}
            # else Slurm may allot most processors on one node and few on the others
            extra.append(f"--ntasks-per-node={self.tasks // self.nodes}")
            if self.gpus:  # on each node, unlike `gpu`; and tasks are counted already
                values |= {"gres": f"gpu:{self.gpus}", "tasks_per_gpu": 0}
        seconds = self.signal_seconds(runtime)
        if seconds is not None:
            extra.append(f"--signal=USR1@{seconds}")
        if extra:
            values["slurm_extra"] = " ".join(f"'{word}'" for word in extra)  # as it goes into a command line
        return values
