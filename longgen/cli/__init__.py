"""The `longgen` command. Each verb is what a Snakemake rule calls; heavy imports happen inside the verbs."""

from __future__ import annotations

import sys

import typer

import longgen.passive  # noqa: F401
from longgen.cli.commands import register_commands
from longgen.errors import LongGenError
from longgen.scratch import use_scratch

app = typer.Typer(
    name="longgen",
    help="LongGen (arXiv 2410.01485): convert a pretrained model into a hybrid of full and sparse attention, extend "
    "its context, evaluate it, measure it, and draw the figures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
register_commands(app)


@app.callback()
def _verbs() -> None:
    pass  # only says that there are verbs: Typer makes a lone one the whole command otherwise


def main() -> None:
    """Entry point: errors that the user can mend are printed as one message, with their exit code."""
    try:
        use_scratch()
        app()
    except LongGenError as error:
        print(f"longgen: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
