"""A drawn figure with the numbers in it, and how both are saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    settle_layout(drawing.figure)
    for extension, metadata in _METADATA.items():
        with atomic_file(folder / f"{name}.{extension}") as temporary:
            drawing.figure.savefig(temporary, format=extension, metadata=metadata)
    save_csv(drawing.data, folder / f"{name}.csv")
    return [folder / f"{name}.{extension}" for extension in FORMATS]


def settle_layout(figure: Figure) -> None:
    """Lay out once for all formats: quicker, and PNG and PDF look alike. Axes of fixed aspect need several passes."""
    passes = 1 if all(axes.get_aspect() == "auto" for axes in figure.axes) else 3
    for _ in range(passes):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save_csv(data: pd.DataFrame, path: Path) -> None:
    """Write ``data`` as CSV, atomically: missing values are empty cells, fractions have 12 significant digits.

    Processors differ in the last of their 16 (an exponential with or without fused products): all of them would be
    other numbers wherever a figure is redrawn.
    """
    with atomic_file(path) as temporary:
        data.to_csv(temporary, index=False, lineterminator="\n", float_format=_in_digits)


def _in_digits(value: Any) -> str:
    return str(value) if float(value).is_integer() else f"{value:.12g}"
