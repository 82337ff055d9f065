"""What a GPU does per second at best: by its datasheet, or better, as measured on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longgen.errors import ArtifactError, ConfigError, require
from longgen.gpus import Gpu, gpu_named, gpu_of_device
from longgen.names import COPY, PRODUCT
from longgen.records.kernels import DeviceLimitRecord
from longgen.results import load_result, typed_records

MADE_BY = "python -m longgen.profiling.gpu"


@dataclass(frozen=True)
class Rates:
    """Ceilings of one GPU.

    Attributes:
        flops: of matrix products in bfloat16, per second.
        bandwidth: of its memory, bytes per second.
        source: where they are from, for tables.
    """

    flops: float
    bandwidth: float
    source: str


def device_rates(gpu_name: str | None, ceilings: Path | None) -> tuple[Gpu, Rates]:
    """The GPU to plan for and its rates: measured ceilings win over the datasheet.

    Args:
        gpu_name: in `GPUS`; None for the one that ``ceilings`` were measured on.
        ceilings: a results file of kind ``device-limits``; None for the datasheet.

    Raises:
        ConfigError: an unknown GPU, or neither is given.
        ArtifactError: the file is missing or corrupt, of another kind, dtype or GPU, or only a try of the code.
    """
    if ceilings is None:
        if gpu_name is None:
            raise ConfigError("gpu is missing: give a GPU, or ceilings that were measured on one")
        datasheet = gpu_named(gpu_name)
        return datasheet, Rates(datasheet.bfloat16, datasheet.memory_bandwidth, "datasheet")
    rates, device = _read_rates(ceilings)
    measured_on = gpu_of_device(device)
    gpu = gpu_named(gpu_name) if gpu_name else measured_on
    if gpu is None:
        raise ArtifactError(f"{ceilings}: measured on {device!r}, whose memory is not known: name the GPU as well")
    if measured_on not in (None, gpu):
        raise ArtifactError(f"{ceilings}: measured on {device!r}: allowed are measurements on {gpu.name}")
    return gpu, rates


def _read_rates(path: Path) -> tuple[Rates, str]:
    """The rates in a results file, and what CUDA calls the device."""
    result = load_result(path, MADE_BY)
    kind, settings = result.kind, result.settings
    _check(path, kind == "device-limits", "kind", kind, "device-limits")
    _check(path, settings.get("tiny") is False, "settings.tiny", settings.get("tiny"), "false: no try of the code")
    _check(path, settings.get("dtype") == "bfloat16", "settings.dtype", settings.get("dtype"), "bfloat16")
    limits: list[DeviceLimitRecord] = typed_records(path, result)
    values = {limit.quantity: limit.value for limit in limits}
    for name in (COPY, PRODUCT):
        value = values.get(name)
        _check(path, value is not None and value > 0, name, value, "a number > 0")
    device = str(result.provenance.get("device", {}).get("name"))
    return Rates(float(values[PRODUCT]), float(values[COPY]), f"measured on {device}"), device


def _check(path: Path, condition: bool, name: str, value: object, allowed: str) -> None:
    try:
        require(condition, name, value, allowed)
    except ConfigError as error:
        raise ArtifactError(f"{path}: {error}") from None
