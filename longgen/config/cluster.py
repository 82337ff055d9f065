"""The part of an experiment's configuration about the cluster: what jobs request of it, never what they compute."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.strict import require


@dataclass(frozen=True)
class ClusterSettings:
    """What is known of the cluster that runs the jobs. All defaults are our choice.

    Attributes:
        gpu: a name in `longgen.gpus.GPUS`, for predicted times.
        cpus_per_gpu: processors that a job gets with each GPU.
        utilization: share of the GPU's peak FLOP/s and memory bandwidth that is assumed to be reached.
        cpu_flops: FLOP/s that a processor is assumed to reach in jobs without a GPU; small models reach less than large
            ones. ``longgen plan cluster --this-machine`` measures.
        cpu_bandwidth: bytes per second that a processor is assumed to read from main memory.
        max_runtime: longest time that a job may request, in minutes; training that takes longer stops with a checkpoint
            before it is over, and goes on in the same job. Null: no limit.
        max_memory: most main memory that a job may request on a node, in GiB. Null: no limit.
    """

    gpu: str = "h100-80gb"
    cpus_per_gpu: int = 8
    utilization: float = 0.4
    cpu_flops: float = 1e10
    cpu_bandwidth: float = 5e9
    max_runtime: int | None = None
    max_memory: int | None = None

    def __post_init__(self) -> None:
        require(self.cpus_per_gpu >= 1, "cpus_per_gpu", self.cpus_per_gpu, "a whole number >= 1")
        require(0 < self.utilization <= 1, "utilization", self.utilization, "a number > 0 and <= 1")
        for name in ("cpu_flops", "cpu_bandwidth"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number > 0")
        for name in ("max_runtime", "max_memory"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "a whole number >= 1 or null")
