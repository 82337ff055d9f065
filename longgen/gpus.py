"""GPUs that can be planned for: what their makers' datasheets promise."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.errors import ConfigError

GIB = 2**30
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Gpu:
    """One GPU, and the links of a machine that holds several.

    Attributes:
        name: for tables.
        bfloat16: dense FLOP/s of its tensor cores, adding up in float32.
        float32: FLOP/s without tensor cores (PyTorch's default).
        memory: bytes that a CUDA program sees, as PyTorch reports them; drivers differ by some 100 MiB.
        memory_bandwidth: bytes per second.
        link: to the other GPUs of the machine, bytes per second and direction.
        host_link: to main memory, bytes per second and direction.
    """

    name: str
    bfloat16: float
    float32: float
    memory: int
    memory_bandwidth: float
    link: float
    host_link: float

    def flops(self, dtype: str) -> float:
        """Peak FLOP/s for ``float32`` or ``bfloat16``."""
        return {"bfloat16": self.bfloat16, "float32": self.float32}[dtype]


def _gpu(name: str, bfloat16: float, float32: float, gib: float, memory_tb: float, link_gb: float, host: float) -> Gpu:
    rates = (memory_tb * TERA, link_gb * GIGA, host * GIGA)
    return Gpu(name, bfloat16 * TERA, float32 * TERA, int(gib * GIB), *rates)


# TFLOP/s dense bfloat16 and float32, GiB, TB/s of memory, GB/s and direction between GPUs and to the host. Sources:
# NVIDIA's datasheet of each. A datasheet states links in both directions together, and bfloat16 with sparsity: both
# are halved here. Without NVLink, GPUs talk over PCIe.
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("h100-80gb", 989.4, 66.9, 79.1, 3.35, 450, 64),  # H100 SXM: NVLink 4, PCIe 5
        _gpu("h200", 989.4, 66.9, 139.7, 4.8, 450, 64),  # H200 SXM: NVLink 4, PCIe 5
        _gpu("a100-80gb", 312, 19.5, 79.1, 2.039, 300, 32),  # A100 SXM 80 GB: NVLink 3, PCIe 4
        _gpu("a100-40gb", 312, 19.5, 39.4, 1.555, 300, 32),  # A100 SXM 40 GB: NVLink 3, PCIe 4
        _gpu("l40s", 362, 91.6, 44.4, 0.864, 32, 32),  # L40S: PCIe 4
        _gpu("rtx-4090", 165.2, 82.6, 23.5, 1.008, 32, 32),  # GeForce RTX 4090 (Ada whitepaper): PCIe 4
        _gpu("b200", 2250, 75, 178.3, 8.0, 900, 64),  # HGX B200: NVLink 5, PCIe 5
    )
}


# Part of what CUDA calls each of them.
CUDA_NAMES = {
    "H100 80GB HBM3": "h100-80gb",
    "H200": "h200",
    "A100-SXM4-80GB": "a100-80gb",
    "A100-SXM4-40GB": "a100-40gb",
    "L40S": "l40s",
    "RTX 4090": "rtx-4090",
    "B200": "b200",
}


def gpu_of_device(cuda_name: str) -> Gpu | None:
    """The GPU that CUDA calls ``cuda_name`` (`torch.cuda.get_device_name`); None if it is not in `GPUS`."""
    for part, name in CUDA_NAMES.items():
        if part in cuda_name and f"G{part}" not in cuda_name:
            return GPUS[name]
    return None


def gpu_named(name: str) -> Gpu:
    """The GPU called ``name`` in `GPUS`. Raises ConfigError if there is none."""
    if name not in GPUS:
        raise ConfigError(f"gpu is {name!r}: allowed are {', '.join(GPUS)}")
    return GPUS[name]
