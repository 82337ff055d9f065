"""Options for the pattern of the sparse layers, and what they say by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from longgen.cli.options.parameters import FieldsOf, OneOf, Options, Overrides
from longgen.errors import ConfigError
from longgen.pattern import SparsePattern

# Our choice where the paper is silent.
PATTERNS = {"sink": SparsePattern(), "stride": SparsePattern(stride=16)}

_PATTERN = "Pattern of the sparse layers"


@dataclass(frozen=True, kw_only=True)
class PatternOptions(Options):
    """A pattern by name, and its sizes."""

    pattern: Annotated[
        str,
        typer.Option(
            help="Attention sink + sliding window, or strided blocks as well",
            rich_help_panel=_PATTERN,
        ),
        OneOf(tuple(PATTERNS)),
    ] = "sink"
    sizes: Annotated[
        Overrides[SparsePattern],
        FieldsOf(
            PATTERNS["sink"],
            *("block_size", "sink_blocks", "local_blocks", "stride", "staggered"),
            panel=_PATTERN,
            default_texts={"stride": f"{PATTERNS['stride'].stride}, if stride"},
        ),
    ] = field(default_factory=Overrides)

    def sparse_pattern(self, name: str | None = None) -> SparsePattern:
        """What the options describe, of the kind ``name`` (None: as they say).

        Raises:
            ConfigError: a stride that contradicts the kind, or an impossible size.
        """
        name = name or self.pattern
        stride = self.sizes.values.get("stride", PATTERNS[name].stride)
        if (stride == 0) != (name == "sink"):
            raise ConfigError(f"--stride is {stride} with --pattern {name}: allowed is 0 with sink, >= 2 with stride")
        return self.sizes.applied_to(PATTERNS[name])

    def has_pattern(self) -> bool:
        """Whether any of these options was given."""
        return "pattern" in self.explicit or bool(self.sizes.values)
