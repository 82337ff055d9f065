"""KV reductions at inference beside the made-up run of `fake_run`, no two alike."""

from __future__ import annotations

import json
from pathlib import Path

from longgen.results import Result, save_result
from longgen.statistics import wilson_interval
from tests.reporting.fake_run import DEPTHS, TRAINED, recalled

SAMPLES = 4  # per depth
# budget of -> task -> method -> needles found at each depth
FOUND = {
    "longgen-sink": {
        "needle": {"tova": [0, 0, 1, 0, 3], "snapkv": [2, 3, 1, 4, 2]},
        "multikey": {"tova": [1, 1, 1, 1, 1], "snapkv": [0, 1, 0, 1, 1]},
    },
    "longgen-stride": {"needle": {"tova": [3, 3, 4, 3, 4], "snapkv": [4, 3, 3, 4, 2]}},
}
KEPT = {"longgen-sink": 0.37, "longgen-stride": 0.61}


def write_reductions(folder: Path) -> Path:
    """Write a results file per budget into the run in ``folder``; returns it."""
    origin = json.loads((folder / "plan.json").read_text())["provenance"]
    for budget_of, tasks in FOUND.items():
        records = []
        for task, methods in tasks.items():
            for method, hits in methods.items():
                for depth, count in zip(DEPTHS, hits, strict=True):
                    low, high = wilson_interval(count, SAMPLES)
                    cell = {"task": task, "length": TRAINED, "depth": depth, "n": SAMPLES, "exact": count / SAMPLES}
                    named = {"method": method, "budget_of": budget_of, "kv_fraction": KEPT[budget_of]}
                    records += recalled([cell | {"exact_low": low, "exact_high": high}], **named)
        path = folder / f"benchmarks/full/reduced-as-{budget_of}/scores.json"
        save_result(path, Result("benchmark", "smoke", records, origin, "full"))
    return folder
