"""The list of verbs, in the order in which a run uses them."""

from __future__ import annotations

import importlib

import typer

# verb -> module in longgen.cli; the module has a function of the verb's name, or an ``app`` with further verbs.
# In Python's names a dash is an underscore.
VERBS = (
    "plan",
    "prepare",
    "pack",
    "probe",
    "convert",
    "train",
    "gates",
    "evaluate",
    "benchmark",
    "perplexity",
    "short-context",
    "profile",
    "figures",
    "compare",
    "publish",
    "commands",
)


def register_commands(app: typer.Typer) -> None:
    """Add every verb to ``app``."""
    for verb in VERBS:
        name = verb.replace("-", "_")
        module = importlib.import_module(f"longgen.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command(verb)(getattr(module, name))
