"""Files of a local source: which there are, in an order that does not change, and opening compressed ones."""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from longgen.errors import ArtifactError, ConfigError

# What opening or reading a compressed file raises if it is broken or cut short, besides OSError.
READ_ERRORS = (OSError, EOFError, zlib.error)


def data_package(name: str) -> Any:
    """Import a package of the extra ``data``, or raise ConfigError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"this source needs the package {name}: pip install 'longgen[data]'") from None


def list_files(path: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The file ``path``; or all files with one of ``suffixes`` below it, or that it matches as a glob pattern; sorted.

    Raises:
        ArtifactError: there are none.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    paths = root.rglob("*") if root.is_dir() else _match(path)
    files = sorted((file for file in paths if file.is_file() and file.name.endswith(suffixes)), key=Path.as_posix)
    if not files:
        raise ArtifactError(f"{path} holds no file: allowed is a file, folder or pattern with {', '.join(suffixes)}")
    return files


def _match(pattern: str) -> Iterator[Path]:
    """The paths that a glob pattern matches, absolute or not."""
    root = Path(pattern).anchor
    return Path(root).glob(pattern.removeprefix(root))


def _open_gzip(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path))


def _open_zstandard(path: Path) -> BinaryIO:
    zstandard = data_package("zstandard")

    class Reader(io.BufferedReader):
        """Its errors are no OSError by themselves."""

        def readline(self, size: int | None = -1) -> bytes:
            try:
                return super().readline(size)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None

    return Reader(zstandard.open(path, "rb"))


_OPENERS: dict[str, Callable[[Path], BinaryIO]] = {".gz": _open_gzip, ".zst": _open_zstandard}


def open_at(path: Path, offset: int) -> BinaryIO:
    """Open a file, compressed or not, for reading lines from ``offset`` on (in bytes of its content)."""
    file = _OPENERS.get(path.suffix, lambda path: path.open("rb"))(path)
    if file.seekable():
        file.seek(offset)
        return file
    while offset > 0:
        offset -= len(file.read(min(offset, 1 << 20)))
    return file
