"""How our programs end: with an exit code, and errors that the user can mend as one line without a traceback."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from longgen.errors import LongGenError
from longgen.foreign import in_words
from longgen.orphans import end_with_starter

DEBUG = "--debug"
FOREIGN = 2  # exit code of errors of known kinds, as that of `LongGenError`
INTERRUPTED = 130  # as shells say it of SIGINT
# What terminals that know no Unicode show of the signs that tables and messages are written with.
_PLAIN = {
    "\u00d7": "x",
    "\u00b7": "-",
    "\u00b5": "u",
    "\u2011": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u2026": "...",
    "\u2192": "->",
    "\u2212": "-",
    "\u2264": "<=",
    "\u2265": ">=",
}


def run_program(main: Callable[[], int | None], name: str = "longgen") -> NoReturn:
    """Call ``main`` and end the process with its exit code (None: 0).

    `LongGenError`, and errors of other code of a known kind (`longgen.foreign.in_words`), become one line
    ``<name>: error: <message>`` on standard error, and exit code 2 or the error's own. With ``--debug`` among the
    arguments, which is taken out of them, or LONGGEN_DEBUG set, their traceback is shown before it. An error of any
    other kind is a fault of this code: Python shows its traceback.

    What the terminal's encoding has no sign for is written in ASCII rather than failing.

    It ends too when Snakemake or torchrun, which have started it, are killed (`longgen.orphans`).
    """
    end_with_starter()
    debug = _is_debugging()
    _write_any_text()
    code: int | str | None
    try:
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()  # a full disk or a closed pipe shows here at the latest
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        _forget_output()  # whoever read it, such as `head`, has had enough
        code = 1
    except Exception as error:
        message = str(error) if isinstance(error, LongGenError) else in_words(error)
        if message is None:
            raise
        if debug:
            traceback.print_exc()
        try:
            sys.stdout.flush()  # what was printed before comes before
        except OSError:
            _forget_output()
        print(f"{name}: error: {message}", file=sys.stderr)
        code = error.exit_code if isinstance(error, LongGenError) else FOREIGN
    sys.exit(code)


def _is_debugging() -> bool:
    has_option = DEBUG in sys.argv[1:]
    sys.argv[1:] = [word for word in sys.argv[1:] if word != DEBUG]
    if has_option:
        os.environ["LONGGEN_DEBUG"] = "1"  # for the processes that this one starts
    return bool(os.environ.get("LONGGEN_DEBUG"))


def _write_any_text() -> None:
    codecs.register_error("longgen.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not what tests and notebooks put in its place
            stream.reconfigure(errors="longgen.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs)
    return plain, error.end


def _forget_output() -> None:
    """Let what Python would still write to standard output at its end go nowhere: it could only fail once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
