"""The `longgen` command. Each verb is what a Snakemake rule calls."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import longgen.passive
from longgen.cli.verbs import VERBS, verbs_app
from longgen.program import DEBUG, run_program
from longgen.scratch import use_scratch

# Between commands that one process carries out in turn, to the first that fails: starting one takes seconds.
THEN = "--then"

app = verbs_app(
    VERBS,
    name="longgen",
    help="LongGen (arXiv 2410.01485): convert a pretrained model into a hybrid of full and sparse attention, extend "
    "its context, evaluate it, measure it, and draw the figures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every verb
)


def _show_version(is_set: bool) -> None:
    if is_set:
        print(f"longgen {longgen.__version__}")
        raise typer.Exit


@app.callback()
def _verbs(
    shows_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    pass  # `run_program` takes --debug out of the arguments; here it is for --help alone


def main() -> None:
    """Entry point: errors that the user can mend are printed as one message, with their exit code."""
    run_program(_run)


def _run() -> None:
    use_scratch()
    commands: list[list[str]] = [[]]
    for word in sys.argv[1:]:
        if word == THEN:
            commands.append([])
        else:
            commands[-1].append(word)
    for words in commands:
        try:
            app(words, prog_name="longgen")
        except SystemExit as end:  # so ends every command
            if end.code:
                raise
