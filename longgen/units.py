"""Numbers with units, as readers want them."""

from __future__ import annotations


def scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    """``value`` in the largest of ``units``, each ``step`` times the one before it, that leaves at least 1."""
    index = 0
    while value >= step and index < len(units) - 1:
        value, index = value / step, index + 1
    return f"{value:,.1f} {units[index]}"


def binary_size(count: float) -> str:
    """``count`` bytes in B, KiB, MiB or GiB."""
    return scaled(count, 1024, ("B", "KiB", "MiB", "GiB"))
