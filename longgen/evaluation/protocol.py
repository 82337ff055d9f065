"""Templates, limits and names that define a benchmark: data with source and licence, in `protocols`."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import yaml


@functools.cache
def protocol(benchmark: str) -> dict[str, Any]:
    """The strings of a benchmark, as its file has them."""
    file = resources.files("longgen.evaluation") / "protocols" / f"{benchmark}.yaml"
    return yaml.safe_load(file.read_text("utf-8"))
