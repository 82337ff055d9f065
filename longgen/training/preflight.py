"""Before the first step: does the set-up fit in memory, and what is the most that the machine could do?"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.errors import ConfigError
from longgen.gpus import gpu_of_device
from longgen.hardware import main_memory
from longgen.hybrid import Hybrid
from longgen.model import Model
from longgen.modeling.shifted import attended_pairs
from longgen.pattern import dense_pairs
from longgen.planner.training import plan_training, require_fit
from longgen.shapes import ModelShape
from longgen.training.parallel.processes import Processes


def available_memory(processes: Processes) -> tuple[int, str]:
    """Bytes that each process may use, and their name: what is free on its GPU, or its part of main memory."""
    if processes.device.type == "cuda":
        return torch.cuda.mem_get_info(processes.device)[0], "GPU memory"
    return main_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), "main memory"


def check_memory(
    shape: ModelShape, hybrid: Hybrid, training: TrainingSettings, setup: SetupSettings, processes: Processes
) -> None:
    """Refuse what is predicted not to fit in memory (`longgen plan train`), before anything large is loaded.

    Raises:
        ConfigError: with the numbers, and the nearest set-ups that would fit; or rows, tokens or heads cannot be shared
            out evenly.
    """
    available, memory = available_memory(processes)
    for number, phase in enumerate(training.phases):
        try:
            plan = plan_training(Model(shape, hybrid), phase.length, phase.batch_size, training, setup, processes.world)
            require_fit(plan, available, memory)
        except ConfigError as error:
            raise ConfigError(f"phases[{number}]: {error}") from None


def utilization(
    shape: ModelShape, hybrid: Hybrid, training: TrainingSettings, processes: Processes, shifted: bool = False
) -> Callable[[PhaseSettings, float], float | None]:
    """Of a phase and the seconds of a step, the model FLOPs utilization (MFU; Chowdhery et al. 2022, arXiv 2204.02311).

    The FLOPs of whole rows, as if documents in them saw each other; nothing that is computed again counts. None on a
    device whose peak is not in `longgen.gpus.GPUS`.

    Args:
        shape: the model.
        hybrid: who sees whom.
        training: the stage.
        processes: that train.
        shifted: full layers are trained with shifted groups of tokens.
    """
    name = torch.cuda.get_device_name(processes.device) if processes.device.type == "cuda" else ""
    gpu = gpu_of_device(name)

    def mfu(phase: PhaseSettings, seconds: float) -> float | None:
        if gpu is None:
            return None
        flops = Model(shape, hybrid).training_flops(phase.length, phase.batch_size)
        if shifted:
            unseen = shape.num_kv_heads * dense_pairs(phase.length) - attended_pairs(phase.length, shape.num_kv_heads)
            per_pair = 3 * 4 * shape.head_dim * (shape.num_heads // shape.num_kv_heads)
            flops -= unseen * per_pair * shape.num_layers * phase.batch_size
        return flops / (seconds * processes.world * gpu.flops(training.dtype))

    return mfu
