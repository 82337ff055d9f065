"""Tables in a terminal, of any width: what does not fit is folded or set below, and no number is ever cut.

Plain text of our own rather than a library's: libraries shorten cells ("131,..."), and the measurements on a bare GPU
machine print tables where PyTorch is all that is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

GAP = "  "
BOLD, RED = "1", "1;31"  # of ANSI's escape sequences
# What words fold to where there is no terminal, beside numbers that stay: a usual width of text. Our choice.
FILE_WIDTH = 120


class Bold(str):
    """A cell that stands out."""


@dataclass
class Table:
    """Rows of text.

    Attributes:
        names: headings of columns of words, the first ones: set to the left, and folded between words if need be.
        numbers: headings of columns of numbers, after them: set to the right, never folded. Lines by ``\\n``.
        title: above it.
        caption: below it.
        keys: how many columns, the first, tell what a row is: they stand in every part of a table that is too wide.
            None: those of words, or one.
        together: the numbers of a row stand beside each other or in one block, never in different parts of the table:
            where they do not fit beside the words, these stand on lines of their own above.
    """

    names: Sequence[str]
    numbers: Sequence[str]
    title: str = ""
    caption: str = ""
    keys: int | None = None
    together: bool = False
    _rows: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    def add(self, *cells: str, style: str = "") -> None:
        """Add a row, with a cell per column. ``style`` is `BOLD`, `RED` or nothing."""
        if len(cells) != len(self.names) + len(self.numbers):
            raise ValueError(f"{len(cells)} cells for {len(self.names) + len(self.numbers)} columns")
        self._rows.append((cells, style))

    def print(self) -> None:
        """To standard output: as wide as the terminal; to a file, as wide as need be (`lines`)."""
        print("\n".join(self.lines(terminal_width(), has_styles())), end="\n\n")

    def lines(self, width: int | None = None, styles: bool = False) -> list[str]:
        """The table in lines of at most ``width`` characters, but for a number that is longer itself.

        None: words are folded where that makes lines of `FILE_WIDTH`; otherwise as long as need be.
        """
        return [*wrapped(self.title, width), *self._body(width, styles), *wrapped(self.caption, width)]

    def _body(self, width: int | None, styles: bool) -> list[str]:
        columns = [_Column(heading, False) for heading in self.names]
        columns += [_Column(heading, True) for heading in self.numbers]
        for cells, _ in self._rows:
            for column, cell in zip(columns, cells, strict=True):
                column.cells.append(cell)
        for column in columns:
            column.width = column.widest
        if width is None:
            words, numbers = columns[: len(self.names)], columns[len(self.names) :]
            room = FILE_WIDTH - (len(GAP) + _width(numbers) if numbers else 0)
            if sum(column.narrowest + len(GAP) for column in words) - len(GAP) <= room:
                _fold(words, room)
        if width is None or _width(columns) <= width:
            return self._part(columns, styles)
        count = (len(self.names) or 1) if self.keys is None else self.keys
        keys, others = columns[:count], columns[count:]
        if self.together:
            return self._together(keys, others, width, styles)
        _fold(keys, max(width // 2, width - len(GAP) - _width(others)))
        parts: list[list[_Column]] = []
        for column in others:
            if not parts or _width([*keys, *parts[-1], column]) > width:
                parts.append([])
            parts[-1].append(column)
        # hardly two numbers beside the words, or not even one
        if 2 * len(parts) > len(others) + 1 or any(_width([*keys, *part]) > width for part in parts):
            return self._below_each_other(columns, count, width, styles)
        lines: list[str] = []
        for part in parts:
            lines += [*([""] if lines else []), *self._part([*keys, *part], styles)]
        return lines

    def _part(self, columns: list[_Column], styles: bool) -> list[str]:
        """These columns beside each other."""
        rows = (self._row(columns, number, styles) for number in range(len(self._rows)))
        return [*self._heading(columns), *(line for row in rows for line in row)]

    def _together(self, keys: list[_Column], others: list[_Column], width: int, styles: bool) -> list[str]:
        """All columns beside each other, or what tells a row on lines above its numbers."""
        for above in (0, len(keys)):
            beside, indent = [*keys[above:], *others], GAP if above else ""
            _fold(keys[above:], width - len(indent) - len(GAP) - _width(others))
            if len(indent) + _width(beside) <= width:
                break
        else:
            return self._below_each_other([*keys, *others], len(keys), width, styles)
        lines = [f"{indent}{line}" for line in self._heading(beside)]
        for row in range(len(self._rows)):
            what = ", ".join(column.named(row) for column in keys[:above] if column.cells[row])
            lines += [_styled(line, BOLD, styles) for line in wrapped(what, width)]
            lines += [f"{indent}{line}" for line in self._row(beside, row, styles)]
        return lines

    def _heading(self, columns: list[_Column]) -> list[str]:
        headings = [(column, column.heading_lines()) for column in columns]
        height = max(len(words) for _, words in headings)
        lines = [
            GAP.join(column.set(words, line - height + len(words)) for column, words in headings)
            for line in range(height)
        ]
        return [line.rstrip() for line in (*lines, GAP.join("-" * column.width for column in columns))]

    def _row(self, columns: list[_Column], number: int, styles: bool) -> list[str]:
        lines, (_, style) = [], self._rows[number]
        cells = [column.folded(column.cells[number]) for column in columns]
        for line in range(max(map(len, cells))):
            styled_cells = [
                _styled(column.set(words, line), BOLD if isinstance(column.cells[number], Bold) else "", styles)
                for column, words in zip(columns, cells, strict=True)
            ]
            lines.append(_styled(GAP.join(styled_cells).rstrip(), style, styles).rstrip())
        return lines

    def _below_each_other(self, columns: list[_Column], count: int, width: int, styles: bool) -> list[str]:
        """A block of lines per row, with a number in each."""
        lines: list[str] = []
        for number, (_, style) in enumerate(self._rows):
            what = ", ".join(column.named(number) for column in columns[:count] if column.cells[number])
            lines += [""] if lines else []
            lines += [_styled(line, style or BOLD, styles) for line in wrapped(what, width)]
            for column in columns[count:]:
                cell = column.cells[number]
                if not cell:
                    continue
                heading = " ".join(column.heading.split())
                room = len(GAP) + len(heading) + 2 + len(cell) <= width
                value = _styled(cell, BOLD if isinstance(cell, Bold) else "", styles)
                lines += [f"{GAP}{heading}: {value}"] if room else [f"{GAP}{heading}:", f"{GAP}{GAP}{value}"]
        return lines


@dataclass
class _Column:
    """A heading and the cells below it."""

    heading: str
    is_number: bool
    cells: list[str] = field(default_factory=list)
    width: int = 0

    @property
    def widest(self) -> int:
        return max(len(line) for text in (self.heading, *self.cells) for line in text.split("\n"))

    @property
    def narrowest(self) -> int:
        """As narrow as it can be without a word, or a number, in two."""
        if self.is_number:
            return self.widest
        return max(len(word) for text in (self.heading, *self.cells) for word in text.split() or [""])

    def named(self, number: int) -> str:
        """A cell; one of numbers after its heading."""
        return f"{' '.join(self.heading.split())} {self.cells[number]}" if self.is_number else self.cells[number]

    def heading_lines(self) -> list[str]:
        return [line for part in self.heading.split("\n") for line in self.folded(part)]

    def folded(self, text: str) -> list[str]:
        return [text] if self.is_number else wrapped(text, self.width) or [""]

    def set(self, lines: list[str], number: int) -> str:
        text = lines[number] if 0 <= number < len(lines) else ""
        return text.rjust(self.width) if self.is_number else text.ljust(self.width)


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def _fold(columns: list[_Column], width: int) -> None:
    """Make the widest narrower, one by one, until all are within ``width`` or none can be."""
    while _width(columns) > width:
        foldable = [column for column in columns if column.width > column.narrowest]
        if not foldable:
            return
        max(foldable, key=lambda column: column.width).width -= 1


def wrapped(text: str, width: int | None) -> list[str]:
    """``text`` in lines of that many columns at most, broken between words; None: as it is."""
    if width is None:
        return text.splitlines()
    wrap = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return [line for part in text.splitlines() for line in wrap.wrap(part)]


def _styled(text: str, style: str, styles: bool) -> str:
    """Between escape sequences, spaces at its ends outside."""
    if not (style and styles and text.strip()):
        return text
    return re.sub(r"\S(.*\S)?", lambda match: f"\x1b[{style}m{match[0]}\x1b[0m", text, count=1)


def print_text(lines: Sequence[str]) -> None:
    """``lines`` to standard output, each wrapped between words to the width of the terminal; to a file as they are."""
    width = terminal_width()
    print("\n".join(part for line in lines for part in wrapped(line, width) or [""]))


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def has_styles() -> bool:
    """Whether standard output is a terminal whose user wants styles (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
