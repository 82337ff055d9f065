"""Runs of one made-up configuration with a seed each: 12 layers, every answer written down."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from longgen.layout import make_layout
from longgen.names import HELDOUT
from longgen.pattern import SparsePattern
from longgen.results import Result, save_result
from longgen.statistics import wilson_interval
from tests.reporting.fake_run import recalled

LAYERS, BASE, TRAINED = 12, 512, 16384
DEVICE = "Pretend Accelerator 9000"
DEPTHS, SAMPLES = (0.0, 0.5, 1.0), 20  # samples of every depth
TASKS = ("needle", "multikey", "hopeless")
SINK = SparsePattern(block_size=64, sink_blocks=1, local_blocks=8)
STRIDE = SparsePattern(block_size=64, sink_blocks=1, local_blocks=8, stride=16)
# variant -> full layers, placement, pattern, share of answers that are right
VARIANTS: dict[str, tuple[str, str, SparsePattern, float]] = {
    "full": ("all", "middle", SINK, 0.97),
    "longgen-sink": ("1/3", "middle", SINK, 0.96),
    "longgen-stride": ("1/3", "middle", STRIDE, 0.94),
    "all-sparse": ("none", "middle", SINK, 0.05),
    "middle-1-12": ("1/12", "middle", SINK, 0.35),
    "middle-1-6": ("1/6", "middle", SINK, 0.62),
    "middle-1-4": ("1/4", "middle", SINK, 0.81),
    "middle-1-2": ("1/2", "middle", SINK, 0.985),
    "ends-1-3": ("1/3", "ends", SINK, 0.45),
    "top-1-3": ("1/3", "top", SINK, 0.3),
}
REDUCED = {"snapkv": 0.7, "tova": 0.4}
BUDGETS = {"longgen-sink": ("snapkv", "tova"), "longgen-stride": ("tova",)}  # whose bytes, and by which methods
EXTENSION = {"phases": [{"length": TRAINED, "steps": 10}], "rope_theta": 1e6}


def outcomes(share: float, seed: int, task: str, depth: float) -> str:
    """Which samples are right: the easy ones, which are the same for all variants."""
    key = [seed, TASKS.index(task), round(10 * depth)]
    ease = np.random.default_rng(key).random(SAMPLES)
    lost = 0.0 if task != "hopeless" else 0.9
    noise = 0.03 * seed - 0.03
    return "".join(str(int(each < share - lost + noise)) for each in ease)


def cell(task: str, depth: float, found: str) -> dict[str, Any]:
    """A cell of the view ``retrieval``."""
    right, n = found.count("1"), len(found)
    low, high = wilson_interval(right, n)
    return {
        "task": task,
        "length": TRAINED,
        "depth": depth,
        "n": n,
        "exact": right / n,
        "exact_low": low,
        "exact_high": high,
        "share": right / n,
        "share_low": low,
        "share_high": high,
        "parts": 1,
        "parts_given": found,
    }


def kv_fraction(name: str) -> float:
    layout, pattern = make_layout(LAYERS, *VARIANTS[name][:2]), VARIANTS[name][2]
    return float(layout.num_full + layout.num_sparse * pattern.kept_count(TRAINED) / TRAINED) / LAYERS


def speedup(name: str, seed: int) -> float:
    """Of training: the more sparse layers the faster; every seed a little slower."""
    return 1.0 if name == "full" else 1 + (1 - kv_fraction(name)) / 2 - 0.02 * seed


def write_seed(folder: Path, seed: int, name: str = "mini", variants: dict = VARIANTS) -> Path:
    """Write all results files of the run with that seed into ``folder``; returns it."""
    run = name if seed == 0 else f"{name}-seed-{seed}"
    origin = {"git_commit": "abc", "git_dirty": False, "seed": seed, "date": "2025-01-01", "device": {"name": DEVICE}}

    def save(path: str, kind: str, records: list[dict], variant: str | None = None, **settings: object) -> None:
        save_result(folder / path, Result(kind, run, records, origin, variant, settings))

    asked = [{"benchmark": "recall", "task": task, "samples": SAMPLES, "depths": [*DEPTHS]} for task in TASKS]
    who = {"model": run, "dtype": "float32"}
    model = {"name": run, "num_layers": LAYERS, "hidden_size": 256}
    described = {
        each: {
            "layout": make_layout(LAYERS, ratio, placement).kinds(),
            "pattern": pattern.to_dict(),
            "pattern_name": "stride" if pattern.stride else "sink",
            "placement": placement,
        }
        for each, (ratio, placement, pattern, _) in variants.items()
    }
    shape = {"trained_length": TRAINED, "base_length": BASE, "default_variants": ["full"]}
    save("plan.json", "plan", [_planned(each) for each in variants], model=model, variants=described, **shape)
    save("corpus.json", "corpus", [{"source": "s", "split": "train", "documents": 1, "tokens": 9, "sha256": "0" * 64}])
    for number, (each, (_, _, _, share)) in enumerate(variants.items()):
        cells = [cell(task, depth, outcomes(share, seed, task, depth)) for task in TASKS for depth in DEPTHS]
        cells += [cell(task, 0.0, "10" * 10) | {"length": BASE} for task in TASKS]  # at a length that is not compared
        save(f"benchmarks/{each}/scores.json", "benchmark", recalled(cells), each, prompts=asked, answers=[who])
        nll = 1.1 + 0.02 * number + 0.01 * seed
        place = {"position_start": TRAINED - 1024, "position_end": TRAINED, "n": 9, "perplexity": math.exp(nll)}
        last = place | {"nll": nll, "nll_low": nll - 0.02, "nll_high": nll + 0.02}
        bins = [last | {"position_start": 0, "position_end": BASE, "nll": nll + 0.3, "nll_high": nll + 0.35}, last]
        bins = [{"source": HELDOUT, "stand_in": False} | row for row in bins]
        save(f"benchmarks/{each}/perplexity.json", "perplexity", bins, each, length=TRAINED, dtype="float32")
        save(f"training/{each}.json", "training", _trained(number, seed), each, extension=EXTENSION, longgen=each)
    for budget, methods in BUDGETS.items():
        records, by = [], []
        for method in methods:
            named = {"method": method, "budget_of": budget, "kv_fraction": kv_fraction(budget)}
            given = {
                (task, depth): outcomes(REDUCED[method], seed, task, depth) for task in TASKS[:2] for depth in DEPTHS
            }
            records += recalled([cell(*where, digits) for where, digits in given.items()], **named)
            by.append(who | {"kv_reduction": {"method": method, "budget_of": budget, "learned": {"steps": 9}}})
        place = f"benchmarks/full/reduced-as-{budget}/scores.json"
        save(place, "benchmark", records, "full", prompts=asked[:2], answers=by)
    save("profile/speed.json", "speed", _speeds(variants, seed), profiling={"repeats": 5}, variants=[*variants])
    save("profile/memory.json", "memory", [_kept(each) for each in variants], profiling={"repeats": 5})
    return folder


def _planned(name: str) -> dict[str, Any]:
    numbers = ("kv_bytes", "prefill_flops", "training_flops", "decode_bytes")
    ideals = (f"ideal_{stage}_speedup" for stage in ("prefill", "decode", "training"))
    about = {"variant": name, "placement": "p", "pattern": "q", "full_layers": 1, "num_layers": LAYERS}
    return about | {"length": TRAINED, "kv_fraction": 1.0} | dict.fromkeys((*numbers, *ideals), 1.0)


def _trained(number: int, seed: int) -> list[dict[str, Any]]:
    shared = {"stage": "extension", "phase": 0, "tokens": 1, "answer_accuracy": None, "learning_rate": 1e-3}
    rows = [(512, 3.0, 10.0), (TRAINED, 2.0, 100.0), (TRAINED, 1.0 + 0.1 * number + 0.01 * seed, 300.0 + number)]
    return [
        shared | {"step": step, "length": length, "loss": loss, "seconds": 1.0, "tokens_per_second": rate}
        for step, (length, loss, rate) in enumerate(rows)
    ]


def _speeds(variants: dict, seed: int) -> list[dict[str, Any]]:
    return [
        {"variant": name, "stage": stage, "length": TRAINED, "n": 5, "seconds": 1.0, "seconds_low": 0.9}
        | {"seconds_high": 1.1, "speedup": ratio, "speedup_low": ratio - spread, "speedup_high": ratio + spread}
        for factor, stage in ((1.0, "training"), (1.1, "prefill"), (1.3, "decode"))
        for name in variants
        for spread in [0.0 if name == "full" else 0.01]
        for ratio in [1.0 if name == "full" else factor * speedup(name, seed)]
    ]


def _kept(name: str) -> dict[str, Any]:
    fraction = kv_fraction(name)
    size = round(1e6 * fraction)
    return {"variant": name, "length": TRAINED, "kv_bytes": size, "kv_bytes_planned": size, "kv_fraction": fraction}


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a results file holds, in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
