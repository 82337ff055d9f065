"""The claims that seeds can test: evidence.yaml as checked values."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from longgen.layout import PLACEMENTS, make_layout
from longgen.reporting.run import Plan, PlannedVariant
from longgen.strict import build, load_yaml, require

EVIDENCE_FILE = Path(__file__).with_name("evidence.yaml")
REDUCTIONS = "reductions"
FULL = "full"


@dataclass(frozen=True)
class Role:
    """What a variant of a plan must be, whatever its name."""

    full_layers: str
    placement: str = "middle"
    pattern: Literal["sink", "stride"] | None = None

    def __post_init__(self) -> None:
        require(self.placement in PLACEMENTS, "placement", self.placement, ", ".join(PLACEMENTS))

    def fits(self, variant: PlannedVariant) -> bool:
        """Whether ``variant`` has exactly that share of full layers, there, and such a pattern in the others."""
        layers = variant.layout.num_layers
        if self.full_layers not in ("all", "none") and (Fraction(self.full_layers) * layers).denominator != 1:
            return False  # the nearest number of layers would be another ratio
        if variant.layout != make_layout(layers, self.full_layers, self.placement):
            return False
        strided = "stride" if variant.pattern.stride else "sink"
        return self.pattern is None or (strided == self.pattern and not variant.pattern.staggered)


@dataclass(frozen=True)
class Comparison:
    """``first`` and ``second`` are roles, ``second`` may be `REDUCTIONS`; one limit is given."""

    first: str
    second: str
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        require((self.above is None) != (self.below is None), "above", self.above, "a number, or below")

    @property
    def rule(self) -> str:
        """Such as ``above -1``."""
        return f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"


@dataclass(frozen=True)
class SeedClaim:
    """One claim: its name for files, its words, what is measured, and what is compared."""

    name: str
    claim: str
    measure: Literal["retrieval", "training-speedup"]
    comparisons: list[Comparison]

    def __post_init__(self) -> None:
        require(len(self.comparisons) > 0, "comparisons", self.comparisons, "at least one")
        speed = self.measure == "training-speedup"
        over_full = not speed or all(each.second == FULL for each in self.comparisons)
        require(over_full, "comparisons", self.comparisons, "with second: full where speed-ups are measured")


@dataclass(frozen=True)
class SeedClaims:
    """The whole file."""

    variants: dict[str, Role]
    answered: float
    claims: list[SeedClaim]

    def __post_init__(self) -> None:
        require(FULL in self.variants, "variants", list(self.variants), "with full, the baseline")
        for claim in self.claims:
            for each in claim.comparisons:
                require(each.first in self.variants, f"{claim.name}: first", each.first, ", ".join(self.variants))
                seconds = [*self.variants, REDUCTIONS]
                require(each.second in seconds, f"{claim.name}: second", each.second, ", ".join(seconds))

    def variant(self, role: str, plan: Plan) -> str | None:
        """Name of the plan's first variant of that role; None if there is none."""
        return next((name for name, each in plan.variants.items() if self.variants[role].fits(each)), None)


@functools.cache
def seed_claims() -> SeedClaims:
    """The claims that come with longgen. Raises ConfigError if the file was damaged."""
    return build(SeedClaims, load_yaml(EVIDENCE_FILE), "")
