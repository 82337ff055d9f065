"""Training jobs to plan: three layers in the shapes of Llama-2 7B."""

from __future__ import annotations

from dataclasses import replace

from longgen.config import LoraSettings, OptimizerSettings, PhaseSettings, SetupSettings, TrainingSettings
from longgen.hybrid import Hybrid
from longgen.layout import Layout, make_layout
from longgen.model import Model
from longgen.pattern import SparsePattern
from longgen.planner.job import TrainingJob
from longgen.shapes import ModelShape


def shape(**changes) -> ModelShape:
    sizes = {"num_layers": 3, "hidden_size": 4096, "intermediate_size": 11008, "num_heads": 32, "num_kv_heads": 32}
    return ModelShape(**{"name": "layers", "head_dim": 128, "vocab_size": 32000} | sizes | changes)


def job(
    shape: ModelShape,
    layout: Layout | None = None,
    processes: int = 8,
    rows: int = 1,
    length: int = 32768,
    dtype: str = "bfloat16",
    optimizer: str = "adamw",
    **setup,
) -> TrainingJob:
    """Two passes of ``rows`` rows per step, on CPUs: without a GPU's reserve."""
    settings = SetupSettings(micro_batch_size=rows, **setup)
    batch = 2 * rows * processes // settings.sequence_parallel
    phase = PhaseSettings(length, batch, steps=100, learning_rate=1e-5)
    training = TrainingSettings([phase], OptimizerSettings(optimizer), packed="rows.yaml", dtype=dtype)
    layout = layout or make_layout(shape.num_layers, 1)
    model = Model(shape, Hybrid(layout, SparsePattern(64, 1, 16)))
    return TrainingJob(model, length, batch, training, settings, processes)


def lora(job: TrainingJob, **settings) -> TrainingJob:
    """The same with adapters."""
    return replace(job, training=replace(job.training, lora=LoraSettings(**settings)))
