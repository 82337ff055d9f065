"""Numbers with units, as readers want them."""

from __future__ import annotations

import math

from longgen.errors import require


def scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    """``value`` in the largest of ``units``, each ``step`` times the one before it, that leaves at least 1."""
    index = 0
    while value >= step and index < len(units) - 1:
        value, index = value / step, index + 1
    return f"{value:,.1f} {units[index]}"


def binary_size(count: float) -> str:
    """``count`` bytes in B, KiB, MiB or GiB."""
    return scaled(count, 1024, ("B", "KiB", "MiB", "GiB"))


def seconds_of_minutes(minutes: float) -> float:
    """Seconds of what the option ``--minutes`` says. Raises ConfigError if that is no time to spend."""
    require(math.isfinite(minutes) and minutes > 0, "--minutes", minutes, "a finite number > 0")
    return 60 * minutes


def readable_seconds(seconds: float) -> str:
    """A time as 40 s, 12 min, 3.5 h or 2.1 days."""
    for unit, size in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= size * 1.5:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
