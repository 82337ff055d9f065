"""Made-up records of `longgen probe`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longgen.layout import count_full_layers, make_layout
from longgen.probed_layout import Unit, Units, layout_key
from longgen.results import Result, save_result

DEVICE, DAY = "Pretend CPU", "2031-05-07"
NEEDED = {18: 1.5, 23: 0.7, 7: 0.5, 21: 0.12}  # layer -> cost when it is sparse
FULL, PROMPTS = 1.2, 4


def write_probe(folder: Path, by_heads: bool = False, layers: int = 30, kv_heads: int = 3) -> Path:
    """A probe of a model in which `NEEDED` layers, or the first head of each, need full attention; returns its file."""
    units = Units(layers, kv_heads, by_heads)
    needed = {unit: NEEDED[unit.layer] for unit in units.all if unit.layer in NEEDED and unit.head in (None, 0)}
    order = sorted(units.all, key=lambda unit: (-needed.get(unit, 0.0), unit.layer))
    rows = [_row(units, needed, "full", units.all), _row(units, needed, "sparse", ())]
    rows += [_row(units, needed, "alone", set(units.all) - {unit}, unit) for unit in units.all]
    for count in (1, 2, 3, 5, 10, 15, 20):
        full = order[: count * units.per_layer]
        rows.append(_row(units, needed, "ranked", full))
        if count <= 10:
            rows.append(_row(units, needed, "greedy", full, full[-1]))
            rows.append(_row(units, needed, "candidate", full[:-1], full[-1]))
    for placement in ("middle", "interleaved"):
        for share in ("1/12", "1/6", "1/3", "1/2", "2/3"):
            layout = make_layout(layers, count_full_layers(layers, share), placement)
            rows.append(_row(units, needed, placement, [unit for unit in units.all if layout.full[unit.layer]]))
    model = {"name": "pretend", "model_type": "llama", "num_layers": layers, "num_kv_heads": kv_heads}
    by = "heads" if by_heads else "layers"
    settings = {"model": model, "by": by, "prompts": PROMPTS, "length": 2048, "weights": "0123456789abcdef"}
    settings |= {"order": [str(unit) for unit in order]}
    origin = {"date": f"{DAY}T12:00:00+00:00", "device": {"kind": "cpu", "name": DEVICE}}
    path = folder / f"probe{'-heads' if by_heads else ''}.json"
    save_result(path, Result("probe", folder.name, rows, origin, None, settings))
    return path


def _row(
    units: Units, needed: dict[Unit, float], name: str, full: Sequence[Unit] | set[Unit], unit: Unit | None = None
) -> dict[str, Any]:
    """Of each prompt the loss is above that of all full by what the sparse units cost, times a factor of its own."""
    layout, chosen = units.layout(full), set(full)
    cost = sum(value for each, value in needed.items() if each not in chosen)
    cost += 0.002 * sum(each not in chosen for each in units.all)
    base = FULL + 0.3 * np.arange(PROMPTS)
    return {
        "by": "heads" if units.by_heads else "layers",
        "set": name,
        "full_layers": layout.num_full,
        "layer": unit.layer if unit else None,
        "head": unit.head if unit else None,
        "layout": layout_key(layout),
        "n": PROMPTS,
        "answer_losses": (base + cost * np.linspace(0.8, 1.2, PROMPTS)).tolist(),
        "text_losses": (2 + base).tolist(),
    }
