"""Results of benchmarks with made-up numbers, no two alike, for variants and a full model with a reduced KV cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from longgen.results import Result, save_result
from longgen.statistics import wilson_interval
from tests.reporting.fake_run import BASE, DEVICE, TRAINED

DAY = "2031-05-07"
LENGTHS = (512, 1024, 2048, 4096)
DEPTHS = (0.0, 0.5, 1.0)
SAMPLES = 20
VARIANTS = ("full", "longgen-sink")
METHODS = ("snapkv", "h2o")
BUDGET_OF = "longgen-sink"
BINS = 8
SOURCE = "made-up books"
# variant, method, budget; the order in figures and tables
MODELS = [*((variant, "none", "none") for variant in VARIANTS), *(("full", method, BUDGET_OF) for method in METHODS)]
LABELS = [
    "full attention",
    "LongGen (sink)",
    *(f"full, reduced: {method} (bytes of {BUDGET_OF})" for method in METHODS),
]


def exact(model: int, task: str, length: int, depth: float) -> float:
    """Share of needles found, a whole number of `SAMPLES`."""
    lost = (0.05 + 0.13 * model + 0.1 * (task == "keys")) * math.log2(length / 256) / 4 * (1.5 - depth)
    return round(max(0.0, 1 - lost) * SAMPLES) / SAMPLES


def rouge(model: int, length: int, depth: float) -> float:
    return 0.5 * exact(model, "fu", length, depth) + 0.031 * model


def ruler(model: int, length: int) -> float:
    """RULER's average in percent."""
    return 97 - 7 * model - 3.3 * math.log2(length / 512)


def kv_fraction(model: int, length: int) -> float | None:
    """Of full attention's cache; nobody measured that of model 3."""
    return None if model == 3 else 0.2 + 0.01 * model + 100 / length if model else 1.0


def nll(variant: int, position: float) -> float:
    return 2 + 0.4 * math.exp(-position / 200) + 0.07 * variant


def write_benchmarks(
    folder: Path,
    name: str = "benchmarked",
    models: Sequence[tuple[str, str, str]] = tuple(MODELS),
    lengths: Sequence[int] = LENGTHS,
    depths: Sequence[float] = DEPTHS,
    stand_in: bool = True,
) -> Path:
    """Write every results file of benchmarks into ``folder``; returns it."""
    origin = {"git_commit": "abc123", "git_dirty": False, "seed": 0, "date": f"{DAY}T10:00", "device": {"name": DEVICE}}

    def save(path: str, kind: str, records: list[dict], variant: str) -> None:
        marked = [record | {"stand_in": stand_in} for record in records]
        save_result(folder / "benchmarks" / path, Result(kind, name, marked, origin, variant))

    for number, (variant, method, budget_of) in enumerate(models):
        place = variant if method == "none" else f"{variant}/{method}-as-{budget_of}"
        named = {"method": method, "budget_of": budget_of}
        scores, summary = _scores(number, lengths, depths), _summary(number, lengths)
        save(f"{place}/scores.json", "benchmark", [record | named for record in scores], variant)
        save(f"{place}/summary.json", "benchmark-summary", [record | named for record in summary], variant)
        if method == "none":
            save(f"{place}/perplexity.json", "perplexity", _long_text(number), variant)
            save(f"{place}/short-context.json", "short-context", _short_context(number), variant)
    return folder


def _scores(model: int, lengths: Sequence[int], depths: Sequence[float]) -> list[dict]:
    """Keys before fu, as prompts are read in the order of their files."""
    records: list[dict] = []

    def add(where: tuple, depth: float | None, score: float, low: float, high: float) -> None:
        record = dict(zip(("benchmark", "task", "metric", "length"), where, strict=True))
        record |= {"depth": depth, "n": SAMPLES, "score": score, "score_low": low, "score_high": high, "outcomes": None}
        records.append(record | {"kv_fraction": kv_fraction(model, record["length"] or TRAINED)})

    score = 0.61 - 0.02 * model
    add(("longbench", "qasper", "score", None), None, score, score - 0.05, score + 0.07)
    for length in lengths:
        for task, depth in [(task, depth) for task in ("keys", "fu") for depth in depths]:
            found = exact(model, task, length, depth)
            interval = wilson_interval(round(found * SAMPLES), SAMPLES)
            add(("needle", task, "exact", length), depth, found, *interval)
            if task == "fu":
                said = rouge(model, length, depth)
                add(("needle", task, "rouge1", length), depth, said, said - 0.03, said + 0.04)
        for task, score in (("niah_single_1", 0.9), ("qa_1", 0.8)):
            score -= 0.07 * model + 0.01 * math.log2(length)
            add(("ruler", task, "score", length), None, score, score - 0.06, score + 0.05)
    return records


def _summary(model: int, lengths: Sequence[int]) -> list[dict]:
    values: list[tuple[str, str, int | None, float | None, str]] = [
        ("needle", "fu exact", None, 90.0 - model, "percent"),
        *(("ruler", "average", length, ruler(model, length), "percent") for length in lengths),
        ("ruler", "weighted-increasing", None, 80.0 - model, "percent"),
        ("ruler", "effective-length", None, None if model > 1 else lengths[2 - model], "tokens"),
        ("longbench", "en: average", None, 31.0 - model, "percent"),
    ]
    records = []
    for benchmark, summary, length, value, unit in values:
        record = {"benchmark": benchmark, "summary": summary, "length": length, "value": value, "unit": unit}
        low, high = (None, None) if unit == "tokens" or value is None else (value - 2, value + 1.5)
        record |= {"value_low": low, "value_high": high, "n": 13 * SAMPLES}
        records.append(record | {"kv_fraction": kv_fraction(model, length or BASE)})
    return records


def _long_text(variant: int) -> list[dict]:
    width = TRAINED // BINS
    records = []
    for start in range(0, TRAINED, width):
        mean = nll(variant, start)
        place = {"source": SOURCE, "position_start": start, "position_end": start + width, "n": 5}
        records.append(
            place | {"nll": mean, "nll_low": mean - 0.02, "nll_high": mean + 0.03, "perplexity": math.exp(mean)}
        )
    return records


def _short_context(variant: int) -> list[dict]:
    records = []
    for number, (task, metric, examples) in enumerate(
        [("hellaswag", "acc", 10), ("hellaswag", "acc_norm", 10), ("arc_easy", "acc", 0)]
    ):
        score = 0.7 - 0.1 * number - 0.03 * variant
        place = {"task": task, "metric": metric, "num_fewshot": examples, "n": 100 + 20 * variant}
        records.append(place | {"score": score, "score_low": score - 0.04, "score_high": score + 0.05})
    return records
