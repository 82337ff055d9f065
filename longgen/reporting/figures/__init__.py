"""The figures by name. A figure is a function from a run to a drawing; one file each. See docs/adding-a-figure.md."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from longgen.reporting import (
    BENCHMARK_FIGURE_NAMES,
    FIGURE_NAMES,
    INFERENCE_FIGURE_NAMES,
    KERNEL_FIGURE_NAMES,
    PACKING_FIGURE_NAMES,
    PROBE_FIGURE_NAMES,
    REDUCTION_FIGURE_NAMES,
    STEP_FIGURE_NAMES,
)
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run

# a figure's module is called like the figure, and has a function `draw`
FIGURES: dict[str, Callable[[Run], Drawing]] = {
    name: importlib.import_module(f"{__name__}.{name}").draw
    for name in (
        *FIGURE_NAMES,
        *REDUCTION_FIGURE_NAMES,
        *BENCHMARK_FIGURE_NAMES,
        *KERNEL_FIGURE_NAMES,
        *STEP_FIGURE_NAMES,
        *INFERENCE_FIGURE_NAMES,
        *PACKING_FIGURE_NAMES,
        *PROBE_FIGURE_NAMES,
    )
}
