"""Profile all variants of an experiment side by side.

In every round each variant runs once, and ratios are taken within the round, so that what else the machine does at the
time cancels out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from longgen.cache_layout import GROWTH_TOKENS
from longgen.config import Experiment, needed
from longgen.hardware import require_gpu
from longgen.planner import experiment_shape
from longgen.planner.model import Model
from longgen.profiling.busy import Watch, spread
from longgen.profiling.measure import decode, prefill, random_tokens, training_step
from longgen.profiling.models import random_variant
from longgen.progress import progress_bar
from longgen.statistics import bootstrap_interval

BASELINE = "full"

Records = list[dict[str, Any]]
# stage -> variant -> seconds of each round
Times = dict[str, dict[str, list[float]]]


def profile_experiment(experiment: Experiment, variants: list[str]) -> tuple[Records, Records, dict[str, str]]:
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
    settings, seed = needed(experiment.profiling, "profiling"), experiment.seed
    device, dtype = settings.device, settings.dtype
    require_gpu("profiling.device", device)
    longest = max(settings.lengths + settings.training_lengths) + settings.decode_tokens
    models = {
        name: random_variant(experiment.model, experiment.variant(name), longest, seed, device, dtype)
        for name in variants
    }
    kv_bytes: dict[tuple[str, int], int] = {}

    def generation(name: str, length: int) -> dict[str, float]:
        prefill_seconds, cache = prefill(models[name], random_tokens(length, seed, device))
        kv_bytes[name, length] = cache.nbytes()
        return {"prefill": prefill_seconds, "decode": decode(models[name], cache, settings.decode_tokens)}

    def training(name: str, length: int) -> dict[str, float]:
        return {"training": training_step(models[name], random_tokens(length, seed, device))}

    speed: Records = []
    total = (1 + settings.repeats) * len(models) * (len(settings.lengths) + len(settings.training_lengths))
    with progress_bar(total, "profile", "run") as bar:
        for lengths, measure in ((settings.lengths, generation), (settings.training_lengths, training)):
            for length in lengths:
                with Watch() as watch:
                    times = rounds(variants, length, settings.repeats, measure, bar.update)
                found = [record for stage in times for record in speed_records(stage, length, times[stage])]
                speed += [record | watch.columns() for record in found]
    value_bytes = models[BASELINE].dtype.itemsize
    return speed, _memory_records(experiment, kv_bytes, value_bytes), models[BASELINE].attention_kernels()


def rounds(
    variants: list[str],
    length: int,
    repeats: int,
    measure: Callable[[str, int], dict[str, float]],
    done: Callable[[], Any],
) -> Times:
    """Seconds of ``repeats`` rounds in which every variant is measured once.

    Args:
        variants: their names.
        length: in tokens.
        repeats: rounds that count; one more before them warms up.
        measure: of a variant and a length: seconds by stage.
        done: called after every measurement.
    """
    times: Times = {}
    for turn in range(1 + repeats):
        # in alternating order: what a variant leaves behind (caches, clock speed) favours no neighbour
        for name in variants if turn % 2 else reversed(variants):
            for stage, seconds in measure(name, length).items():
                if turn:  # the first round warms up
                    times.setdefault(stage, {}).setdefault(name, []).append(seconds)
            done()
    return times


def speed_records(stage: str, length: int, times: dict[str, list[float]]) -> Records:
    """Records of kind ``speed`` from the `rounds` of a stage: medians and spreads of times and of ratios within rounds.

    How busy the machine was is not among them.
    """
    records = []
    for name, seconds in sorted(times.items()):
        ratios = np.array(times[BASELINE]) / np.array(seconds)
        low, high = bootstrap_interval(seconds, "median")
        ratio_low, ratio_high = bootstrap_interval(ratios, "median")
        records.append(
            {
                "variant": name,
                "stage": stage,
                "length": length,
                "n": len(seconds),
                "seconds": float(np.median(seconds)),
                "seconds_low": low,
                "seconds_high": high,
                "speedup": float(np.median(ratios)),
                "speedup_low": ratio_low,
                "speedup_high": ratio_high,
                "spread": spread(seconds),
                "speedup_spread": spread(ratios),
            }
        )
    return records


def _memory_records(experiment: Experiment, kv_bytes: dict[tuple[str, int], int], value_bytes: int) -> Records:
    shape = experiment_shape(experiment)
    records = []
    for (name, length), measured in sorted(kv_bytes.items()):
        variant = experiment.variant(name)
        planned = Model(shape, variant.hybrid).kv_cache_bytes(
            length, bytes_per_value=value_bytes, full_chunk=GROWTH_TOKENS
        )
        fraction = measured / kv_bytes[BASELINE, length]
        record = {"variant": name, "length": length, "kv_bytes": measured}
        records.append(record | {"kv_bytes_planned": planned, "kv_fraction": fraction})
    return records
