"""The paper's claims: paper_claims.yaml as checked values."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.model import CostPlan, Model, make_plan
from longgen.pattern import SparsePattern
from longgen.shapes import model_shape
from longgen.strict import build, load_yaml, require

CLAIMS_FILE = Path(__file__).with_name("paper_claims.yaml")


@dataclass(frozen=True)
class PaperClaim:
    """One claim and the numbers by which it is judged; paper_claims.yaml explains the rule.

    Attributes:
        name: short, for files.
        claim: in words.
        measure: what answers it; see `longgen.reporting.claims.MEASURES`.
        unit: of all its numbers.
        tolerance: in that unit.
        how: what is measured, where the claim does not say it.
        decimals: that readers see.
        paper: the paper's number, or None where it states the claim in words.
        paper_words: those words.
        target: what is to be reached; the paper's number if not given.
        stage: of a speed-up.
        can_exceed: whether "exceeded" means anything.
    """

    name: str
    claim: str
    measure: Literal[
        "speedup",
        "kv_reduction",
        "sequences",
        "retrieval_kept",
        "retrieval_lost",
        "reductions_beaten",
        "extension",
    ]
    unit: str
    tolerance: float
    how: str | None = None
    decimals: int = 1
    paper: float | None = None
    paper_words: str | None = None
    target: float | None = None
    stage: Literal["training", "prefill", "decode"] | None = None
    can_exceed: bool = True

    def __post_init__(self) -> None:
        require((self.paper is None) != (self.paper_words is None), "paper", self.paper, "a number, or paper_words")
        require(
            self.target is not None or self.paper is not None, "target", self.target, "a number where paper is in words"
        )
        require((self.measure == "speedup") == (self.stage is not None), "stage", self.stage, "given for a speedup")
        require(self.decimals >= 0, "decimals", self.decimals, "a number >= 0")
        require(self.tolerance >= 0, "tolerance", self.tolerance, "a number >= 0")

    @property
    def has_ideal(self) -> bool:
        """Whether the planner predicts an ideal of it."""
        return self.measure in ("speedup", "kv_reduction", "sequences")

    @property
    def nothing_gained(self) -> float:
        """The value of a model that is no better than full attention, or than the base model."""
        return 0.0 if self.measure == "kv_reduction" else 1.0

    @property
    def goal(self) -> float:
        """``target``, else the paper's number."""
        value = self.paper if self.target is None else self.target
        assert value is not None  # checked above
        return value

    @property
    def reproduced_from(self) -> float:
        """The lower end of the measured interval must be at least this for "reproduced"."""
        return self.goal - self.tolerance

    @property
    def exceeded_above(self) -> float:
        """The lower end of the measured interval must be above this for "exceeded"."""
        return self.goal + self.tolerance


@dataclass(frozen=True)
class PaperVariant:
    """A hybrid at the paper's scale; the pattern is our choice."""

    full_layers: int | str
    pattern: SparsePattern
    placement: str = "middle"


@dataclass(frozen=True)
class PaperClaims:
    """The whole file; ``reading`` is the variant that the paper's numbers belong to."""

    title: str
    model: str
    length: int
    base_length: int
    variants: dict[str, PaperVariant]
    hybrids: list[str]
    reading: str
    claims: list[PaperClaim]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(self.reading in self.variants, "reading", self.reading, f"one of {', '.join(self.variants)}")

    @functools.cached_property
    def plans(self) -> dict[str, CostPlan]:
        """What the planner predicts of every variant at the paper's scale."""
        shape = model_shape(self.model)
        return {
            name: make_plan(
                Model(
                    shape,
                    Hybrid(make_layout(shape.num_layers, variant.full_layers, variant.placement), variant.pattern),
                ),
                self.length,
            )
            for name, variant in self.variants.items()
        }

    def ideal(self, claim: PaperClaim, variant: str) -> float | None:
        """The value of a claim that a variant reaches at best at the paper's scale; None of claims in words."""
        if claim.stage:
            return float(getattr(self.plans[variant], f"ideal_{claim.stage}_speedup"))
        if claim.measure == "kv_reduction":
            return 100 * self.plans[variant].kv_reduction
        if claim.measure == "sequences":
            return 1 / (1 - self.plans[variant].kv_reduction)
        return self.length / self.base_length if claim.measure == "extension" else None

    def share(self, claim: PaperClaim) -> float | None:
        """The paper's number over the ideal of `reading`; None of claims in words."""
        return _over(claim.paper, self.ideal(claim, self.reading))

    def share_from(self, claim: PaperClaim) -> float | None:
        """What the lower end of the measured interval must be over its own ideal at other scales; None as above."""
        return _over(claim.reproduced_from, self.ideal(claim, self.reading))


def _over(value: float | None, ideal: float | None) -> float | None:
    return None if value is None or ideal is None else value / ideal


def scale_name(model: str, length: int) -> str:
    """``smoke @ 2048``: a model and a length in tokens."""
    return f"{model} @ {length}"


@functools.cache
def paper_claims() -> PaperClaims:
    """The claims that come with longgen. Raises ConfigError if the file was damaged."""
    return build(PaperClaims, load_yaml(CLAIMS_FILE), "")
