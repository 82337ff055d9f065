"""A drawn figure with the numbers in it, and how both are saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from longgen.files import atomic_file

# No dates and no versions: the same numbers give the same bytes.
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
FORMATS = ("png", "pdf", "csv")


@dataclass(frozen=True)
class Drawing:
    """A figure and exactly the numbers that it shows.

    Attributes:
        figure: ready to be saved.
        data: one row per thing drawn; the CSV beside the picture.
    """

    figure: Figure
    data: pd.DataFrame


def save_drawing(drawing: Drawing, folder: Path, name: str) -> list[Path]:
    """Write ``name.png``, ``name.pdf`` and ``name.csv`` into ``folder``, each atomically; returns their paths."""
    _settle_layout(drawing.figure)
    for extension, metadata in _METADATA.items():
        with atomic_file(folder / f"{name}.{extension}") as temporary:
            drawing.figure.savefig(temporary, format=extension, metadata=metadata)
    save_csv(drawing.data, folder / f"{name}.csv")
    return [folder / f"{name}.{extension}" for extension in FORMATS]


def _settle_layout(figure: Figure) -> None:
    """Lay out until nothing moves (axes of equal aspect take several passes), then keep it: PNG and PDF look alike."""
    places: list[list[float]] = []
    for _ in range(5):
        figure.draw_without_rendering()
        before, places = places, [list(axes.get_position().bounds) for axes in figure.axes]
        if before and np.allclose(before, places, atol=1e-3):
            break
    figure.set_layout_engine("none")


def save_csv(data: pd.DataFrame, path: Path) -> None:
    """Write ``data`` as CSV, atomically: missing values are empty cells, floats have all their digits."""
    with atomic_file(path) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n")
