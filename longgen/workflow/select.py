"""Which variants an invocation of the workflow makes."""

from __future__ import annotations

from longgen.config import Experiment
from longgen.errors import ConfigError


def selected_variants(experiment: Experiment, select: str = "default") -> list[str]:
    """The variants of an invocation: the configuration's default ones (``default``), ``all``, or names with commas.

    Raises:
        ConfigError: an unknown name, or the full model is not among them.
    """
    if select == "default":
        return experiment.default_variants
    if select == "all":
        return list(experiment.variants)
    asked = select.split(",")
    chosen = [name for name in experiment.variants if name in asked]
    if set(asked) - set(chosen) or "full" not in chosen:
        allowed = ", ".join(experiment.variants)
        raise ConfigError(f"select is {select!r}: allowed are default, all, or names with full among them: {allowed}")
    return chosen
