"""A job of the workflow as its request is computed: the experiment, its set-up, and rates of the processors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from longgen.cluster.assumptions import CPUS, FILE_RATE, START_SECONDS
from longgen.config import ClusterSettings, Experiment, SetupSettings, Variant
from longgen.gpus import Gpu, gpu_named
from longgen.model import VALUE_BYTES
from longgen.planner import experiment_shape
from longgen.planner.rates import Rates
from longgen.shapes import ModelShape


@dataclass(frozen=True)
class ClusterJob:
    """A job of the workflow, and what its request depends on.

    Attributes:
        experiment: its configuration.
        setup: the processes that train.
        variants: of this invocation.
        wildcards: of the job's rule, by name.
    """

    experiment: Experiment
    setup: SetupSettings
    variants: tuple[str, ...]
    wildcards: Mapping[str, str] = field(default_factory=dict)

    @property
    def cluster(self) -> ClusterSettings:
        """The cluster."""
        return self.experiment.cluster

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return experiment_shape(self.experiment)

    @property
    def variant(self) -> Variant:
        """The model of the job: that of wildcard ``variant``, or the full one."""
        return self.experiment.variant(self.wildcards.get("variant", "full"))

    @property
    def model_bytes(self) -> int:
        """Of a model's weights on disk: of a checkpoint in the dtype that computes, of a new model in float32."""
        dtype = self.experiment.extension.dtype if self.experiment.model.checkpoint else "float32"
        return self.shape.parameters * VALUE_BYTES[dtype]

    @property
    def loading_seconds(self) -> float:
        """To start a process and read a model."""
        return START_SECONDS + self.model_bytes / FILE_RATE

    def cpus(self, device: str) -> int:
        """Processors of a process on ``cpu`` or ``cuda``."""
        return self.cluster.cpus_per_gpu if device == "cuda" else CPUS

    def processor(self, device: str, cpus: int | None = None) -> Gpu:
        """What computes in a process: the cluster's GPU, or ``cpus`` processors, as if they were one.

        What is assumed of processors is reached, and no share of a peak: `efficiency` is 1 then.
        """
        if device == "cuda":
            return gpu_named(self.cluster.gpu)
        count = cpus or self.cpus(device)
        flops, bandwidth = count * self.cluster.cpu_flops, count * self.cluster.cpu_bandwidth
        return Gpu("cpu", flops, flops, 0, bandwidth, bandwidth, bandwidth)

    def efficiency(self, device: str) -> float:
        """Share of the `processor`'s rates that is assumed to be reached."""
        return self.cluster.utilization if device == "cuda" else 1.0

    def rates(self, device: str, dtype: str = "bfloat16", cpus: int | None = None) -> Rates:
        """FLOPs and bytes per second of a process, as assumed. 16-bit floats all count as bfloat16."""
        processor, share = self.processor(device, cpus), self.efficiency(device)
        flops = processor.flops("float32" if dtype == "float32" else "bfloat16")
        return Rates(share * flops, share * processor.memory_bandwidth, "assumed")
