"""PyramidKV: SnapKV with more tokens in lower layers than in higher ones."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from longgen.evaluation.baselines.method import check_count
from longgen.evaluation.baselines.snapkv import SnapKV


def pyramid(mean: int, num_layers: int, length: int, window: int, beta: int) -> list[int]:
    """Tokens for every layer, from the bottom up: an arithmetic sequence that falls to ``mean / beta`` at the top.

    Args:
        mean: tokens per layer on average.
        num_layers: layers.
        length: of the prompt.
        window: tokens of it that are not chosen from; where the bottom layer would get more than the rest, the
            slope is less.
        beta: how pointed the pyramid is.

    Returns:
        one number per layer, not rising, with the sum ``mean * num_layers``.
    """
    if num_layers == 1 or length < 2 * mean:  # the authors' code: too much for a pyramid, and all layers get the same
        return [mean] * num_layers
    bottom = min(Fraction(length - window), 2 * mean - Fraction(mean, beta))
    slope = 2 * (bottom - mean) / (num_layers - 1)
    exact = [bottom - layer * slope for layer in range(num_layers)]
    tokens = [int(value) for value in exact]
    # what rounding down left over goes to the largest remainders; the authors round the slope down, and overspend
    by_remainder = sorted(range(num_layers), key=lambda layer: tokens[layer] - exact[layer])
    for layer in by_remainder[: mean * num_layers - sum(tokens)]:
        tokens[layer] += 1
    return tokens


@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """PyramidKV (Cai et al. 2024, arXiv 2406.02069, section 4).

    `SnapKV` whose tokens before the window fall from layer to layer: information is spread out in lower layers and
    gathers in a few tokens in higher ones. Window and pooling are those of the authors' LongBench script.

    Attributes:
        capacity: tokens per KV head, on average over layers.
        beta: how pointed the pyramid is; the authors' default.
    """

    window: int = 8
    beta: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("beta", self.beta)

    def tokens_before_window(self, layer: int, num_layers: int, length: int) -> int:
        """The layer's share of the pyramid."""
        return pyramid(self.capacity - self.window, num_layers, length, self.window, self.beta)[layer]
