"""A complete run with made-up numbers, no two alike: a swapped series, task, stage or length is noticed."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from longgen.layout import make_layout
from longgen.names import HELDOUT
from longgen.pattern import SparsePattern
from longgen.reporting.views import PARTS
from longgen.results import Result, save_result
from longgen.statistics import wilson_interval

BASE, TRAINED = 256, 2048
LENGTHS = (256, 512, 1024, 2048)
SPEED_LENGTHS = (512, 1024, 2048, 4096)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TASKS = ("needle", "multikey", "variable-tracking")
STAGES = ("prefill", "decode", "training")
DEVICE = "Pretend Processor 9000"
LAYERS = 6
PATTERNS = {
    "sink": SparsePattern(block_size=32, sink_blocks=1, local_blocks=4, stride=0),
    "stride": SparsePattern(block_size=32, sink_blocks=1, local_blocks=4, stride=8),
}
# variant -> full layers, placement, pattern
DEFAULTS = {
    "full": ("all", "middle", "none"),
    "longgen-sink": ("1/3", "middle", "sink"),
    "longgen-stride": ("1/3", "middle", "stride"),
    "all-sparse": ("none", "middle", "sink"),
}
ABLATION = DEFAULTS | {
    "middle-1-6": ("1/6", "middle", "sink"),
    "middle-1-2": ("1/2", "middle", "sink"),
    "ends-1-3": ("1/3", "ends", "sink"),
    "bottom-1-3": ("1/3", "bottom", "sink"),
    "top-1-3": ("1/3", "top", "sink"),
    "interleaved-1-3": ("1/3", "interleaved", "sink"),
}
# how well each variant retrieves, in the order of ABLATION
QUALITY = (0.95, 0.90, 0.88, 0.06, 0.55, 0.93, 0.41, 0.20, 0.30, 0.79)
SAMPLES = 20


def exact(variant: int, task: int, length: int, depth: float) -> float:
    """Share of right answers, a whole number of `SAMPLES`."""
    quality = QUALITY[variant] - 0.09 * task
    lost = (1 - quality) * math.log2(length / BASE) / 3 * (1.4 - depth)
    if length <= BASE:
        lost = 0.01 * variant
    return round(max(0.0, min(1.0, 1 - lost - 0.05 * task)) * SAMPLES) / SAMPLES


def speedup(variant: int, stage: int, length: int) -> float:
    """Measured speed-up; 1 for variant 0, which is full attention."""
    return 1.0 if variant == 0 else 1 + (0.05 + 0.021 * variant + 0.1 * (2 - stage)) * math.log2(length / 256)


def ideal(variant: int, stage: int, length: int) -> float:
    """Predicted speed-up: always above the measured one."""
    return 1.0 if variant == 0 else speedup(variant, stage, length) * 1.15 + 0.013 * variant


def kv_fraction(name: str, length: int, variants: dict = ABLATION) -> float:
    layout, pattern = _layout(name, variants), PATTERNS.get(variants[name][2], PATTERNS["sink"])
    return (layout.num_full * length + layout.num_sparse * pattern.kept_count(length)) / (layout.num_layers * length)


def _layout(name: str, variants: dict):
    full_layers, placement, _ = variants[name]
    return make_layout(LAYERS, full_layers, placement)


def write_run(folder: Path, variants: dict = DEFAULTS, name: str = "smoke", dirty: bool = False) -> Path:
    """Write every results file of a run into ``folder``; returns it."""
    origin = {"git_commit": "abc123", "git_dirty": dirty, "seed": 0, "date": "2025-01-01", "device": {"name": DEVICE}}

    def save(path: str, kind: str, records: list[dict], variant: str | None = None, **settings: object) -> None:
        save_result(folder / path, Result(kind, name, records, origin, variant, settings))

    names = list(variants)
    numbers = {variant: list(ABLATION).index(variant) for variant in names}
    save("plan.json", "plan", _plan_records(names, variants), **_plan_settings(names, variants, name))
    corpus = {"source": "made up", "documents": 3, "tokens": 1000, "sha256": "0" * 64}
    save("corpus.json", "corpus", [corpus | {"split": split} for split in ("train", "heldout")])
    save("training/base.json", "training", _training_records("base", 0))
    for variant, number in numbers.items():
        save(f"training/{variant}.json", "training", _training_records("extension", number), variant)
        save(f"benchmarks/{variant}/scores.json", "benchmark", recalled(_retrieval_cells(number)), variant)
        save(f"benchmarks/{variant}/perplexity.json", "perplexity", _perplexity_records(number), variant)
    save("profile/speed.json", "speed", _speed_records(numbers))
    save("profile/memory.json", "memory", _memory_records(names, variants))
    return folder


def write_experiment(folder: Path) -> Path:
    """A run like `write_run`'s of which nothing was asked; returns its folder."""
    shutil.rmtree(write_run(folder) / "benchmarks")
    return folder


def _plan_settings(names: list[str], variants: dict, name: str) -> dict:
    model = {"name": name, "num_layers": LAYERS, "hidden_size": 128, "intermediate_size": 384, "num_heads": 4}
    described = {
        variant: {
            "layout": _layout(variant, variants).kinds(),
            "pattern": PATTERNS.get(variants[variant][2], PATTERNS["sink"]).to_dict(),
            "pattern_name": variants[variant][2],
            "placement": variants[variant][1],
            "full_layers": _layout(variant, variants).num_full,
        }
        for variant in names
    }
    return {
        "model": model | {"num_kv_heads": 4, "head_dim": 32, "vocab_size": 300},
        "trained_length": TRAINED,
        "base_length": BASE,
        "variants": described,
        "default_variants": list(DEFAULTS),
    }


def _plan_records(names: list[str], variants: dict) -> list[dict]:
    return [
        {
            "variant": name,
            "placement": variants[name][1],
            "pattern": variants[name][2],
            "full_layers": _layout(name, variants).num_full,
            "num_layers": LAYERS,
            "length": length,
            "kv_bytes": 6144 * length * kv_fraction(name, length),
            "kv_fraction": kv_fraction(name, length),
            "prefill_flops": 1e9,
            "training_flops": 3e9,
            "decode_bytes": 1e8,
            **{
                f"ideal_{stage}_speedup": ideal(list(ABLATION).index(name), s, length) for s, stage in enumerate(STAGES)
            },
        }
        for name in names
        for length in sorted({*LENGTHS, *SPEED_LENGTHS})
    ]


def _training_records(stage: str, number: int) -> list[dict]:
    records, phases = [], [(0, 64, 150), (1, 256, 50)] if stage == "base" else [(0, TRAINED, 40)]
    tokens = 0
    for phase, length, count in phases:
        for _ in range(count):
            tokens += length * 40 if stage == "base" else length * 8
            step = len(records) * 5 + 5
            noise = 0.12 * math.sin(step * 1.7) if stage == "base" else 0.04 * math.sin(step)
            loss = 1.2 + 4 * math.exp(-step / 300) if stage == "base" else 1.1 + 0.05 * number + math.exp(-step / 60)
            accuracy = None if step < 30 else 1 / (1 + math.exp(-(step - 400) / 60)) * (1 - 0.08 * number)
            if stage == "extension":
                accuracy = (1 - 0.07 * number) * (1 - math.exp(-step / 50))
            records.append(
                {
                    "stage": stage,
                    "phase": phase,
                    "step": step,
                    "length": length,
                    "tokens": tokens,
                    "loss": loss + noise,
                    "answer_accuracy": accuracy,
                    "learning_rate": 1e-3,
                    "seconds": step * 0.5,
                    "tokens_per_second": 1e4,
                }
            )
    return records


def recalled(cells: list[dict], **named: object) -> list[dict]:
    """Records of kind ``benchmark`` of cells of the view ``retrieval``; ``named`` says how caches were reduced."""
    records = []
    for cell in cells:
        for metric in ("exact", *(("share",) if "share" in cell and cell["task"] in PARTS else ())):
            digits, parts = cell.get("parts_given"), PARTS.get(cell["task"], 1)
            known = digits is not None and metric == ("exact" if parts == 1 else "share")
            record = {"benchmark": "recall", "metric": metric, "stand_in": False, "kv_fraction": None}
            record |= {name: cell[name] for name in ("task", "length", "depth", "n")}
            record |= {f"score{end}": cell[f"{metric}{end}"] for end in ("", "_low", "_high")}
            record |= {"outcomes": [int(digit) / parts for digit in digits] if known else None}
            records.append(record | {"method": "none", "budget_of": "none"} | named)
    return records


def _retrieval_cells(number: int) -> list[dict]:
    records = []
    for t, task in enumerate(TASKS):
        for length in LENGTHS:
            for depth in DEPTHS if task == "needle" else (None,):
                share = exact(number, t, length, 0.5 if depth is None else depth)
                low, high = wilson_interval(round(share * SAMPLES), SAMPLES)
                cell = {"task": task, "length": length, "depth": depth, "n": SAMPLES}
                records.append(cell | {"exact": share, "exact_low": low, "exact_high": high})
    return records


def _perplexity_records(number: int) -> list[dict]:
    records = []
    for start in range(0, TRAINED, 128):
        nll = 1.15 + 0.4 * math.exp(-start / 200) + 0.017 * number * (1 + start / TRAINED)
        place = {"source": HELDOUT, "position_start": start, "position_end": start + 128, "n": 12, "stand_in": False}
        records.append(
            place | {"nll": nll, "nll_low": nll - 0.02, "nll_high": nll + 0.025, "perplexity": math.exp(nll)}
        )
    return records


def _speed_records(numbers: dict[str, int]) -> list[dict]:
    records = []
    for stage_number, stage in enumerate(STAGES):
        for length in SPEED_LENGTHS[: 3 if stage == "training" else 4]:
            for variant, number in numbers.items():
                ratio = speedup(number, stage_number, length)
                spread = 0.0 if variant == "full" else 0.06
                seconds = length / 1000 / ratio
                records.append(
                    {
                        "variant": variant,
                        "stage": stage,
                        "length": length,
                        "n": 5,
                        "seconds": seconds,
                        "seconds_low": seconds * 0.97,
                        "seconds_high": seconds * 1.04,
                        "speedup": ratio,
                        "speedup_low": ratio - spread,
                        "speedup_high": ratio + 1.2 * spread,
                    }
                )
    return records


def _memory_records(names: list[str], variants: dict) -> list[dict]:
    records = []
    for length in SPEED_LENGTHS:
        for name in names:
            fraction = kv_fraction(name, length, variants)
            planned = round(6144 * length * fraction)
            measured = {"variant": name, "length": length, "kv_bytes": planned + 64}
            records.append(measured | {"kv_bytes_planned": planned, "kv_fraction": fraction})
    return records
