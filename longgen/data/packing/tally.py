"""What was read of each source so far, good and bad."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from longgen.errors import ArtifactError

# Our choices: how many bad records are shown, and over how many at least the share of bad ones is judged on the way.
EXAMPLES = 5
JUDGED_FROM = 10_000


@dataclass
class Tally:
    """Counts of one source.

    Attributes:
        records: documents and bad records.
        tokens: of the documents.
        bad: records that are no documents.
        examples: place and reason of the first few of them.
    """

    records: int = 0
    tokens: int = 0
    bad: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: dict[str, Any]) -> None:
        """Add counts, given as the fields of a tally."""
        self.records += other["records"]
        self.tokens += other["tokens"]
        self.bad += other["bad"]
        self.examples = [*self.examples, *other["examples"]][:EXAMPLES]

    def check(self, name: str, max_bad_fraction: float, finished: bool) -> None:
        """Raise ArtifactError if too many records of source ``name`` are bad; at the end, or clearly before it."""
        if self.bad > max_bad_fraction * (self.records if finished else max(self.records, JUDGED_FROM)):
            raise ArtifactError(
                f"source {name}: {self.bad:,} of {self.records:,} records are bad, allowed is a share of "
                f"{max_bad_fraction:g} (max_bad_fraction). The first: {'; '.join(self.examples)}"
            )
