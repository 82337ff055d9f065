"""The figures by name. A figure is a function from a run to a drawing; one file each. See docs/adding-a-figure.md."""

from __future__ import annotations

from collections.abc import Callable

from longgen.reporting.drawing import Drawing
from longgen.reporting.figures import (
    kv,
    layouts,
    needle,
    pattern,
    perplexity,
    ratio_ablation,
    retrieval,
    speed_by_length,
    speedup,
    training,
)
from longgen.reporting.run import Run

FIGURES: dict[str, Callable[[Run], Drawing]] = {
    "pattern": pattern.draw,
    "layouts": layouts.draw,
    "needle": needle.draw,
    "retrieval": retrieval.draw,
    "perplexity": perplexity.draw,
    "training": training.draw,
    "ratio_ablation": ratio_ablation.draw,
    "speedup": speedup.draw,
    "speed_by_length": speed_by_length.draw,
    "kv": kv.draw,
}
