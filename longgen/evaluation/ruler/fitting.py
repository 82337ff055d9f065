"""How many items of a haystack fit in a length: the official search, and the retreat where a draw is too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from longgen.errors import ConfigError

# The official code tries for ever; this many draws of the smallest size that do not fit, and we give up.
ATTEMPTS = 100


@dataclass(frozen=True)
class Draw:
    """A prompt as drawn, its right answers, and its length in tokens without special ones."""

    prompt: str
    answers: list[str]
    tokens: int


def thrice_estimated(tokens: Callable[[int], int], budget: int, step: int) -> int:
    """Upper bound of the search: three times what ``budget`` tokens hold by the measure of ``step`` items."""
    return max(int(budget / (tokens(step) / step) * 3), 2 * step)


def largest_fitting(tokens: Callable[[int], int], budget: int, step: int, upper: int) -> int:
    """The most items whose prompt has at most ``budget`` tokens, by bisection between ``step`` and ``upper``.

    Args:
        tokens: tokens of a newly drawn prompt with so many items.
        budget: tokens that the prompt may have.
        step: fewest items; the result where not even they fit.
        upper: most items.
    """
    lower, largest = step, step
    while lower <= upper:
        middle = (lower + upper) // 2
        if tokens(middle) <= budget:
            largest, lower = middle, middle + 1
        else:
            upper = middle - 1
    return largest


def draw_fitting(draw: Callable[[int], Draw], budget: int, step: int, size: int) -> Draw:
    """A draw of ``size`` items, or of ``step`` fewer again and again until one fits in ``budget`` tokens.

    A draw that is impossible (IndexError, ValueError) counts as one that does not fit.

    Raises:
        ConfigError: not even the smallest fits.
    """
    for _ in range(size // step + ATTEMPTS):
        try:
            candidate = draw(size)
            if candidate.tokens <= budget:
                return candidate
        except (IndexError, ValueError):
            pass
        if size > step:
            size -= step
    raise ConfigError(f"no prompt of this task fits in {budget} tokens: ask for a greater length")
