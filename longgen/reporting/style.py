"""The one look of all figures: fonts, sizes, and a colour and marker per variant that never change between figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from longgen.reporting.words import SEPARATOR, format_length, variant_label

WIDTH = 7.0  # inches: the text width of a two-column paper
NOTE_SIZE = 6.5  # points: of the small print
_LEFT_MARGIN = 0.08  # inches beside title and note
ABOVE = 11.0  # points between axes and title where `write_above` writes

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same look on every machine
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "figure.dpi": 200,  # also that of the layout: sizes of text depend on it
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # editable text
}


# Of heat maps of scores: as the field has them, and for readers to whom red and green look alike. Numbers in the cells
# say the same to everyone.
RED_GREEN, RED_BLUE = "RdYlGn", "RdYlBu"
_HEAT_COLORS: ContextVar[str] = ContextVar("heat colors", default=RED_GREEN)


@contextlib.contextmanager
def heat_colors(name: str) -> Iterator[None]:
    """Heat maps within this are drawn in `RED_GREEN`, as otherwise too, or in `RED_BLUE`."""
    before = _HEAT_COLORS.set(name)
    try:
        yield
    finally:
        _HEAT_COLORS.reset(before)


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Draw and save within this: matplotlib's defaults and `RC`, whatever a user's matplotlibrc says."""
    with rc_context():
        rcdefaults()
        rcParams.update(cast(Any, RC | {"image.cmap": _HEAT_COLORS.get()}))
        yield


# Roles that are not variants.
INK = "#222222"
MUTED = "#6b6b6b"
FULL = "#3b3b3b"
SINK = "#E69F00"
LOCAL = "#0072B2"
STRIDED = "#CC79A7"
UNSEEN_COLOR = "#f1f1f1"


@dataclass(frozen=True)
class VariantStyle:
    """How a variant looks in every figure."""

    color: str
    marker: str
    label: str


# Okabe-Ito, extended by Tol's muted scheme: told apart with every common colour blindness, and by the marker in print.
_VARIANT_LOOKS: dict[str, tuple[str, str]] = {
    "full": ("#222222", "o"),
    "longgen-sink": ("#0072B2", "s"),
    "longgen-stride": ("#D55E00", "D"),
    "all-sparse": ("#CC79A7", "X"),
    "middle-1-6": ("#56B4E9", "<"),
    "middle-1-2": ("#332288", ">"),
    "ends-1-3": ("#009E73", "P"),
    "bottom-1-3": ("#999933", "v"),
    "top-1-3": ("#E69F00", "^"),
    "interleaved-1-3": ("#882255", "p"),
}
_SPARE = (
    *(("#44AA99", "h"), ("#AA4499", "d"), ("#DDCC77", "H"), ("#117733", "8"), ("#88CCEE", "s"), ("#661100", "o")),
    *(("#CC6677", "D"), ("#BBBBBB", "^"), ("#EE3377", "v"), ("#994F00", "p")),
)


def variant_styles(names: Iterable[str]) -> dict[str, VariantStyle]:
    """A style per variant. Give *all* variants of a run, so that a variant looks the same in each of its figures."""
    names = list(names)
    other_names = [name for name in names if name not in _VARIANT_LOOKS]
    looks = _VARIANT_LOOKS | {name: _SPARE[index % len(_SPARE)] for index, name in enumerate(other_names)}
    return {name: VariantStyle(*looks[name], variant_label(name)) for name in names}


def text_color(color: str) -> str:
    """``color`` for words on white: darker where it is so light that it suits areas and markers alone."""
    red, green, blue = to_rgb(color)
    brightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    factor = min(1.0, 0.45 / brightness) if brightness else 1.0
    return to_hex((red * factor, green * factor, blue * factor))


def new_figure(title: str, note: str, height: float, width: float = WIDTH) -> Figure:
    """An empty figure with a title at the top left, and below it a small grey note (run, model, device).

    What is too wide for the figure goes on in another line, by which the figure is higher than ``height`` (inches).
    """
    room = 72 * (width - 2 * _LEFT_MARGIN)  # points
    heading = "\n".join(_in_lines(title, " ", room, RC["figure.titlesize"], "bold"))
    small = "\n".join(_in_lines(note, SEPARATOR, room, NOTE_SIZE))
    title_height, note_height = (0.21 + 0.17 * heading.count("\n"), 0.21 + 0.12 * small.count("\n"))  # inches
    height += title_height + note_height - 0.42
    figure = Figure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(
        w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.04, rect=(0, 0, 1, 1 - (title_height + note_height) / height)
    )
    left, below = _LEFT_MARGIN / width, 1 - (0.06 + title_height) / height
    figure.suptitle(heading, x=left, y=1 - 0.06 / height, ha="left", va="top").set_in_layout(False)
    note_text = figure.text(left, below, small, ha="left", va="top", fontsize=NOTE_SIZE, color=MUTED)
    note_text.set_in_layout(False)
    return figure


def _in_lines(text: str, separator: str, room: float, size: float, weight: str = "normal") -> list[str]:
    """``text`` in lines of at most ``room`` points, broken at separators, else at spaces; longer words stay whole."""
    font = FontProperties(family=RC["font.family"], size=size, weight=weight)
    lines: list[str] = []
    for part in text.split(separator):
        longer = separator.join([*lines[-1:], part])
        if lines and text_to_path.get_text_width_height_descent(longer, font, ismath=False)[0] <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    too_wide = [text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] > room for line in lines]
    if separator == " " or not any(too_wide):
        return lines
    return [
        part
        for line, wide in zip(lines, too_wide, strict=True)
        for part in (_in_lines(line, " ", room, size, weight) if wide else [line])
    ]


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend for the whole figure below its panels, in as many columns as its width holds; none without entries."""
    if not handles:
        return
    lengths = [len(str(handle.get_label())) for handle in handles]
    for rows in range(1, len(handles) + 1):
        columns = -(-len(handles) // rows)
        label_columns = np.array_split(lengths, columns)  # as matplotlib fills the columns
        if (
            sum(0.46 + 0.066 * max(column) for column in label_columns) <= figure.get_figwidth()
        ):  # inches, at RC's font size
            break
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def length_axis(
    axes: Axes, lengths: Sequence[float] | np.ndarray, label: str = "context length (tokens)", margin: float = 1.25
) -> None:
    """A logarithmic x axis whose ticks are the lengths themselves, with a factor as ``margin`` on either side."""
    ticks = sorted({float(length) for length in lengths})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_length(value)))
    axes.set_xlim(ticks[0] / margin, ticks[-1] * margin)
    axes.set_xlabel(label)


def log_axis(axes: Axes, low: float = np.inf, high: float = 0.0) -> None:
    """A logarithmic y axis that reaches from ``low`` to ``high`` at least, with round numbers as ticks.

    Call it when all is drawn: the ticks are those within the limits.
    """
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    bottom, top = min(bottom, low), max(top, high)
    axes.set_ylim(bottom, top)
    steps: tuple[float, ...] = (1, 2, 5) if top > 30 * bottom else (1, 1.5, 2, 3, 5, 7)
    decades = range(int(np.floor(np.log10(bottom))), int(np.ceil(np.log10(top))) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if bottom <= tick <= top]))
    axes.yaxis.set_minor_locator(NullLocator())


def mark_length(axes: Axes, length: float, text: str) -> None:
    """A dashed vertical line at a length; its meaning stands above the axes, so that it covers no data."""
    axes.axvline(length, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    write_above(axes, length, text, "center")


def write_above(axes: Axes, x: float, text: str, align: str, color: str = MUTED) -> None:
    """Small print just above the top of the axes; give the title a pad of `ABOVE` points."""
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 1.5),
        textcoords="offset points",
        ha=align,
        va="bottom",
        fontsize=6.5,
        color=color,
    )
