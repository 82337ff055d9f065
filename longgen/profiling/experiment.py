"""Profile all variants of an experiment side by side.

In every round each variant runs once, and ratios are taken within the round, so that what else the machine does at the
time cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from longgen.cache_layout import GROWTH_TOKENS
from longgen.config import Experiment, ModelSettings, Variant, require_part
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.hardware import require_gpu
from longgen.model import Model
from longgen.modeling import LongGenCache, longgen_config
from longgen.modeling.head import head_input
from longgen.planner import experiment_shape
from longgen.profiling.device import time_run
from longgen.profiling.rounds import BASELINE, ratio_columns, rounds_by_stage, time_columns
from longgen.progress import progress_bar
from longgen.records.experiment import MemoryRecord, SpeedRecord
from longgen.training.base import base_config
from longgen.training.loss import weighted_loss


def profile_experiment(
    experiment: Experiment, variants: list[str]
) -> tuple[list[SpeedRecord], list[MemoryRecord], dict[str, str]]:
    """Measure prefill, decode and training step by length, and the bytes of the KV cache after prefill.

    Args:
        experiment: gives the model's shape, the lengths and the number of rounds, device and dtype. Batch 1.
        variants: names of variants; ``full``, which the speed-ups are relative to, must be one of them.

    Returns:
        records of kind ``speed`` and of kind ``memory``, see docs/results-format.md. Times are medians over rounds with
        95 % bootstrap intervals; speed-ups are medians of the ratios within rounds. Last, which code computed
        attention.

    Raises:
        ConfigError: the configuration has no ``profiling``, or it asks for a GPU and there is none.
    """
    settings, seed = require_part(experiment.profiling, "profiling"), experiment.seed
    device, dtype = settings.device, settings.dtype
    require_gpu("profiling.device", device)
    longest = max(settings.lengths + settings.training_lengths) + settings.decode_tokens
    models = {
        name: _random_variant(experiment.model, experiment.variant(name), longest, seed, device, dtype)
        for name in variants
    }
    kv_bytes: dict[tuple[str, int], int] = {}

    def generation(length: int, name: str) -> dict[str, float]:
        prefill_seconds, cache = _prefill(models[name], _random_tokens(length, seed, device))
        kv_bytes[name, length] = cache.nbytes()
        return {"prefill": prefill_seconds, "decode": _decode(models[name], cache, settings.decode_tokens)}

    def training(length: int, name: str) -> dict[str, float]:
        return {"training": _training_step(models[name], _random_tokens(length, seed, device))}

    speed: list[SpeedRecord] = []
    total = (1 + settings.repeats) * len(models) * (len(settings.lengths) + len(settings.training_lengths))
    with progress_bar(total, "profile", "run") as bar:
        for lengths, measure in ((settings.lengths, generation), (settings.training_lengths, training)):
            for length in lengths:
                times, busy = rounds_by_stage(variants, settings.repeats, partial(measure, length), bar.update)
                for stage in times:
                    speed += speed_records(stage, length, times[stage], busy)
    value_bytes = models[BASELINE].dtype.itemsize
    return speed, _memory_records(experiment, kv_bytes, value_bytes), models[BASELINE].attention_kernels()


def speed_records(stage: str, length: int, times: dict[str, list[float]], busy: Mapping[str, Any]) -> list[SpeedRecord]:
    """Records of kind ``speed`` from the rounds of a stage: medians and spreads of times and of ratios within rounds.

    Args:
        stage: its name.
        length: in tokens.
        times: of every variant, in every round.
        busy: as `rounds_by_stage` says.
    """
    return [
        SpeedRecord(
            variant=name,
            stage=stage,
            length=length,
            **time_columns(seconds, fewest=1),
            **ratio_columns(times[BASELINE], seconds, fewest=1),
            **busy,
        )
        for name, seconds in sorted(times.items())
    ]


def _memory_records(
    experiment: Experiment, kv_bytes: dict[tuple[str, int], int], value_bytes: int
) -> list[MemoryRecord]:
    shape = experiment_shape(experiment)
    records = []
    for (name, length), measured in sorted(kv_bytes.items()):
        variant = experiment.variant(name)
        planned = Model(shape, variant.hybrid).kv_cache_bytes(
            length, bytes_per_value=value_bytes, full_chunk=GROWTH_TOKENS
        )
        share = measured / kv_bytes[BASELINE, length]
        records.append(
            MemoryRecord(variant=name, length=length, kv_bytes=measured, kv_bytes_planned=planned, kv_fraction=share)
        )
    return records


# ---------------------------------------------------------------- one timed call of each
def _random_variant(
    settings: ModelSettings, variant: Variant, max_length: int, seed: int, device: str = "cpu", dtype: str = "float32"
) -> Any:
    """The hybrid ``variant`` of an experiment's model with random weights, on a device in a dtype of PyTorch's."""
    torch.manual_seed(seed)
    config = longgen_config(base_config(settings, max_length), variant.layout, variant.pattern)
    return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).to(device).eval()


def _random_tokens(length: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """[1, length] random token ids (int64), the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY_SIZE, (1, length), generator=generator).to(device)


@torch.no_grad()
def _prefill(model: Any, tokens: torch.Tensor) -> tuple[float, LongGenCache]:
    """Seconds to read ``tokens`` [1, length] into a new cache and predict one token; and the cache."""
    cache = LongGenCache(model.config)

    def run() -> None:
        model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)

    return time_run(run, str(model.device)).seconds, cache


@torch.no_grad()
def _decode(model: Any, cache: LongGenCache, steps: int) -> float:
    """Mean seconds per token of ``steps`` decoded tokens on top of ``cache``."""
    first = torch.zeros((1, 1), dtype=torch.long, device=model.device)

    def run() -> None:
        token = first
        for _ in range(steps):
            token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)

    return time_run(run, str(model.device)).seconds / steps


def _training_step(model: Any, tokens: torch.Tensor) -> float:
    """Seconds for the forward and backward pass over ``tokens`` [1, length] (no optimizer: it is the same for all)."""
    model.zero_grad()
    targets, weights = tokens.roll(-1, dims=1), torch.ones_like(tokens, dtype=torch.float32)

    def run() -> None:
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        loss, _, _ = weighted_loss(head_input(model, hidden), model.lm_head.weight, targets, weights)
        loss.backward()

    return time_run(run, str(model.device)).seconds
