"""A slice of a model with random weights, and the step that training takes with it."""

from __future__ import annotations

import math

import torch

from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.config.parts import Device
from longgen.gpus import GIB
from longgen.planner.training import plan_training
from longgen.profiling.device import Precision, Timing, time_run
from longgen.profiling.models import become, random_stack
from longgen.profiling.stacks import FEWEST_LAYERS, Stack
from longgen.profiling.workloads import FULL
from longgen.shapes import ModelShape
from longgen.training.batches import Batch
from longgen.training.optimizer import make_optimizers
from longgen.training.parallel.processes import Processes, join_processes
from longgen.training.parallel.training_module import TrainingModule
from longgen.training.preflight import available_memory
from longgen.training.step import compute_gradients, update_weights

LEARNING_RATE = 1e-5  # small: whatever the steps do to random weights is to stay finite


def how_to_train(length: int, precision: Precision, device: str) -> tuple[TrainingSettings, SetupSettings]:
    """One row of ``length`` tokens a step, with activations recomputed, as one GPU must at 128K (our choice)."""
    phase = PhaseSettings(length, batch_size=1, steps=1, learning_rate=LEARNING_RATE, mixture={"random tokens": 1.0})
    kind: Device = "cpu" if device == "cpu" else "cuda"
    return TrainingSettings([phase], dtype=precision), SetupSettings(recompute=True, device=kind)


def layers_that_fit(shape: ModelShape, length: int, device: str, precision: Precision, most_layers: int) -> list[int]:
    """Numbers of layers, the largest first, whose step is predicted to fit in the memory that is free.

    Raises:
        ValueError: not even `FEWEST_LAYERS` fit.
    """
    settings, setup = how_to_train(length, precision, device)
    available, what = available_memory(Processes(device=torch.device(device)))
    needed = {
        count: plan_training(
            Stack(FULL, count, count).model(shape), length, batch_size=1, training=settings, setup=setup, processes=1
        ).memory_bytes
        for count in range(most_layers, FEWEST_LAYERS - 1, -1)
    }
    fitting = [count for count, size in needed.items() if size <= available]
    if not fitting:
        least = f"a layer is predicted to need {needed[FEWEST_LAYERS] / GIB:.0f} GiB"
        raise ValueError(f"{least}: there are {available / GIB:.0f} GiB of {what}")
    return fitting


class TrainingSlice:
    """Layers of a model's true shape under its embeddings and LM head, ready to train on random tokens.

    One set of weights stands for all slices of as many layers or fewer: which layers are full is switched from step to
    step, and of a slice of fewer layers the upper ones are left out.

    Args:
        shape: of the whole model; its layers are built as Llama's.
        num_layers: of the slice.
        length: tokens of a row.
        device: ``cpu`` or ``cuda``.
        precision: bfloat16 shards over one process by FSDP2, as training does; weights that are updated are float32.
        full_kernel: a name in `FULL_KERNELS`, or ``auto``.

    Raises:
        ValueError: another GPU than the first is asked for.
        torch.OutOfMemoryError: so many layers do not fit.
    """

    def __init__(
        self,
        shape: ModelShape,
        num_layers: int,
        length: int,
        device: str,
        precision: Precision,
        full_kernel: str = "auto",
    ) -> None:
        if torch.device(device).index:
            raise ValueError(f"device is {device!r}: allowed is cuda; CUDA_VISIBLE_DEVICES chooses another GPU")
        self.settings, self.setup = how_to_train(length, precision, device)
        processes = join_processes(self.setup, sharded=precision != "float32")
        self.device, self.shape = processes.device, shape
        torch.manual_seed(0)
        self.model = random_stack(shape, num_layers, length, self.device, torch.float32).train()
        self.model.use_full_attention(full_kernel)
        self.kernels = self.model.attention_kernels(getattr(torch, precision))
        self.module = TrainingModule(self.model, processes, self.settings, self.setup)
        self.optimizers = make_optimizers(self.model, self.settings.optimizer)
        tokens = torch.randint(shape.vocab_size, (1, length + 1))
        self.row = Batch(tokens[:, :-1], tokens[:, 1:], torch.ones(1, length))

    def batch(self, start: int, size: int) -> Batch:
        """The one row, as `TrainingRows` gives them."""
        return self.row

    def step(self, stack: Stack) -> Timing:
        """One optimizer step of ``stack``: forward, backward, clipping, AdamW.

        Raises:
            RuntimeError: the loss or the gradients are not finite.
            torch.OutOfMemoryError: it does not fit.
        """
        become(self.model, stack)
        phase = self.settings.phases[0]
        numbers = None

        def run() -> None:
            nonlocal numbers
            numbers = compute_gradients(self.module, self.optimizers, self, phase, 0, self.settings, self.setup)
            update_weights(self.optimizers, phase, 0)

        timing = time_run(run, str(self.device))
        assert numbers is not None
        if not (math.isfinite(numbers.loss) and math.isfinite(numbers.gradient_norm)):
            raise RuntimeError(f"loss is {numbers.loss}, gradient norm is {numbers.gradient_norm} in {stack}")
        return timing
