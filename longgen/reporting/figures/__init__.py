"""The figures by name. A figure is a function from a run to a drawing; one file each. See docs/adding-a-figure.md."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from longgen.reporting import FIGURE_NAMES, SEEDS
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run

# a figure's module is called like the figure, and has a function `draw`
FIGURES: dict[str, Callable[[Run], Drawing]] = {
    name: importlib.import_module(f"{__name__}.{name}").draw
    for subject, names in FIGURE_NAMES.items()
    for name in names
    if subject != SEEDS
}
