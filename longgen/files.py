"""Writing files and folders so that nothing half-written is ever read: fill a temporary sibling, then rename."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError, OutputError
from longgen.foreign import no_room
from longgen.units import binary_size

AGAIN = "make room, and give the same command again"
_ELSEWHERE = "give a path where it can be"


@contextlib.contextmanager
def writing(path: Path | str, otherwise: str = AGAIN) -> Iterator[None]:
    """Raise OutputError, which names ``path`` and how much is free there, for what a full disk raises meanwhile.

    Args:
        path: what is written.
        otherwise: advice.
    """
    try:
        yield
    except BaseException as error:  # PyTorch's of checkpoints are no Exceptions
        if isinstance(error, OutputError):  # of a part of it, whose name is that of a temporary one
            reason = error.reason
        elif words := no_room(error):
            reason = f"{words}; {_free(Path(path))} free there"
        else:
            raise
        raise OutputError(path, reason, otherwise) from error


def _free(path: Path) -> str:
    """Of the file system that ``path`` is on, as far up as there is a folder."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return binary_size(shutil.disk_usage(there).free)


@contextlib.contextmanager
def atomic_file(path: Path | str, otherwise: str = AGAIN) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; renamed to ``path`` on success, removed on error.

    Raises:
        OutputError: there is no room; ``otherwise`` is its advice.
    """
    path = Path(path)
    check_place(path)
    with _beside(path), writing(path, otherwise):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(descriptor)
    temporary = Path(name)
    with writing(path, otherwise):
        try:
            yield temporary
            temporary.chmod(0o644)  # mkstemp makes files private
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path | str, otherwise: str = AGAIN) -> Iterator[Path]:
    """Yield a new empty folder beside ``path``; it takes ``path``'s place on success, and is removed on error.

    A folder already at ``path`` is replaced: call only where that is wanted.

    Raises:
        OutputError: there is no room; ``otherwise`` is its advice.
    """
    path = Path(path)
    check_place(path, is_folder=True)
    with _beside(path), writing(path, otherwise):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    with writing(path, otherwise), _in_place_of(path, temporary):
        yield temporary


def check_place(path: Path | str, is_folder: bool = False) -> None:
    """Raise OutputError where no file, or folder, of this path can be: found before the work rather than after it."""
    path = Path(path)
    if path.exists() and path.is_dir() != is_folder:
        raise OutputError(path, f"a {'file' if is_folder else 'folder'} of that name is there", _ELSEWHERE)
    parent = next(each for each in path.absolute().parents if each.exists())
    if not parent.is_dir():
        raise OutputError(path, f"{parent} is a file", _ELSEWHERE)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(path, f"nothing may be written in {parent}", _ELSEWHERE)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Raise OutputError, which names ``path`` and nothing temporary, where nothing can be made beside it."""
    try:
        yield
    except OSError as error:
        raise OutputError(path, error.strerror or str(error), _ELSEWHERE) from error


@contextlib.contextmanager
def _in_place_of(path: Path, temporary: Path) -> Iterator[None]:
    try:
        yield
        temporary.chmod(0o755)
        if path.exists():
            # Rename the old one away first: between the two renames there is none, never a mixture.
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; a list of numbers stands in one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # within text no line is broken: these brackets are those of lists
    text = re.sub(r"\[\n([-+.,\w\s]+)\]", lambda match: f"[{' '.join(match[1].split())}]", text)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str, made_by: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        made_by: the command that makes it, for the error message.

    Raises:
        ArtifactError: the file is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: `{made_by}` makes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not readable as JSON ({error}): {_remade(made_by)}") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): give a file that `{made_by}` made") from None


def read_mapping(path: Path | str, made_by: str, **fields: type) -> dict[str, Any]:
    """Read a JSON file that is a mapping.

    Args:
        path: the file.
        made_by: the command that makes it, for the error message.
        fields: key -> type of its value, of those that are needed.

    Raises:
        ArtifactError: as `read_json`, or it is no mapping or lacks a field.
    """
    value: dict[str, Any] = read_json(path, made_by)
    check_fields(path, value, _remade(made_by), **fields)
    return value


def _remade(made_by: str) -> str:
    """What to do about a file that may be damaged, or may be another one that was given by mistake."""
    return f"give a file that `{made_by}` made; one that is damaged: delete it, and that makes it anew"


def check_fields(place: Path | str, value: object, otherwise: str, **fields: type) -> None:
    """Raise ArtifactError unless ``value``, read at ``place``, is a mapping with these fields; end with advice."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{place} holds {type(value).__name__} where a mapping is needed: {otherwise}")
    for name, kind in fields.items():
        if not isinstance(value.get(name), kind):
            problem = f"is {value[name]!r:.60}" if name in value else "is missing"
            raise ArtifactError(f"{place}: {name} {problem} where {kind.__name__} is needed: {otherwise}")


def fingerprint_files(paths: Iterable[Path]) -> str:
    """Short SHA-256 of the contents of ``paths``, in the order given; read in pieces."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:16]
