"""Errors of other people's code: which kinds are known, and what they say in one line."""

from __future__ import annotations

import contextlib
import errno
import json
import linecache
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from longgen.errors import ArtifactError, LongGenError

LONGEST = 300  # characters of a foreign message that are shown: some libraries write pages
# What a write meets where there is no room, or the medium fails.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Packages whose own error classes say what is wrong with what they were given. By name: none is imported for this.
_PACKAGES = ("datasets", "httpx", "huggingface_hub", "pyarrow", "requests", "safetensors", "yaml", "zstandard")


def in_words(error: BaseException) -> str | None:
    """What an error of a known kind says, in one line; None for any other, which is a fault of the code.

    Known are errors of the operating system, of text, JSON, YAML and archives that are damaged, of too little memory,
    and those that `safetensors`, `tokenizers`, the hub's and the data sets' libraries raise about what they read.
    """
    if is_out_of_memory(error):
        return f"out of memory ({first_line(error)}): a smaller batch, length or model needs less"
    if isinstance(error, UnicodeError):
        return f"text in another encoding ({first_line(error)})"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({first_line(error)})"
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, zipfile.BadZipFile | tarfile.TarError | zlib.error):
        return f"damaged archive ({first_line(error)})"
    if isinstance(error, EOFError):
        return f"ends too early ({first_line(error)})"
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if packages & set(_PACKAGES) or _is_of_tokenizers(error):
        return " ".join(str(error).split())[:LONGEST] or type(error).__name__
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the machine or of the GPU."""
    names = {kind.__name__ for kind in type(error).__mro__}
    allocator = "DefaultCPUAllocator: can't allocate memory" in str(error)
    return "MemoryError" in names or "OutOfMemoryError" in names or (isinstance(error, RuntimeError) and allocator)


def no_room(error: BaseException) -> str | None:
    """The system's words where a write failed for want of room, or the medium failed; None for any other error.

    A full disk, a quota, a limit on files. Libraries in other languages give these words in errors of their own, and
    numpy says how much it wrote of what.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _NO_ROOM else None
    if isinstance(error, OSError) and "requested and" in str(error):
        return first_line(error)
    return next((words for words in map(os.strerror, _NO_ROOM) if words in str(error)), None)


def first_line(error: BaseException) -> str:
    """The first line of a message that says anything; the error's class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:LONGEST] if lines else type(error).__name__


def last_line(error: BaseException) -> str:
    """The last line of a message, where a library says what happened last; the error's class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


@contextlib.contextmanager
def reading(path: Path | str, otherwise: str) -> Iterator[None]:
    """Raise ArtifactError ``<path> cannot be read (<reason>): <otherwise>`` for what a library meets in a file.

    Whatever its class: on damaged files libraries such as transformers stumble anywhere. Our own errors, and too
    little memory, are no fault of the file, and stay what they are.
    """
    try:
        yield
    except LongGenError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = in_words(error) or f"{type(error).__name__}: {first_line(error)}"
        raise ArtifactError(f"{path} cannot be read ({reason}): {otherwise}") from error


def _of_system(error: OSError) -> str:
    if error.strerror is None:
        return first_line(error)
    where = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([" -> ".join(where), error.strerror] if where else [error.strerror])


def _is_of_tokenizers(error: BaseException) -> bool:
    """`tokenizers` raises bare Exceptions out of Rust, which has no frame: known by the line that called it."""
    if type(error) is not Exception or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return "okenizer" in linecache.getline(last.tb_frame.f_code.co_filename, last.tb_lineno)
