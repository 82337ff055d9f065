"""Files of JSON lines that survive a kill: one process appends, and what it did not finish writing does not count."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from longgen.errors import ArtifactError
from longgen.files import check_fields, writing
from longgen.foreign import reading


def read_lines(path: Path, **fields: type) -> Iterator[dict[str, Any]]:
    """The values of all whole lines; none where there is no file.

    Raises:
        ArtifactError: a line is damaged, or lacks one of ``fields`` (key -> type of its value).
    """
    advice = "delete the line, and the command that wrote it makes it anew"
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True) if path.exists() else (), 1):
        if line.endswith(b"\n"):
            with reading(f"{path}:{number}", advice):
                value = json.loads(line)
            check_fields(f"{path}:{number}", value, advice, **fields)
            yield value


def write_line(file: TextIO, value: dict[str, Any]) -> None:
    """Append a line; it is on disk once ``file`` is flushed."""
    file.write(json.dumps(value, ensure_ascii=False) + "\n")


@contextmanager
def append_to(path: Path, otherwise: str = "wait for it") -> Iterator[TextIO]:
    """Open ``path`` to append lines, made with its folder if need be; what a killed process was writing is cut off.

    Args:
        path: the file.
        otherwise: advice if another process has it open.

    Raises:
        ArtifactError: another process has it open.
        OutputError: there is no room; the lines before stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "make room, and the same command goes on from there"), path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArtifactError(f"{path} is being written by another process: {otherwise}") from None
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)
        yield file
