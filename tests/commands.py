"""`longgen` within the process of a test."""

from __future__ import annotations

from typer.testing import CliRunner

from longgen.cli import app


def longgen(*words: object, code: int = 0) -> str:
    """What `longgen` prints; with another exit code than 0, which it must end with, also the error's message.

    Raises:
        Exception: what ends it, unless ``code`` is that of an error.
    """
    outcome = CliRunner().invoke(app, list(map(str, words)))
    error = outcome.exception
    if error is not None and not isinstance(error, SystemExit) and not (code and hasattr(error, "exit_code")):
        raise error
    assert getattr(error, "exit_code", outcome.exit_code) == code, f"{outcome.output}{error}"
    return f"{outcome.output}{error or ''}"
