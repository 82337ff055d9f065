"""Shards: numbered folders, each written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from longgen.errors import ArtifactError
from longgen.files import atomic_directory
from longgen.units import binary_size


def shard_path(folder: Path, number: int) -> Path:
    """The folder of a shard."""
    return folder / f"{number:05d}"


def finished_shards(folder: Path) -> list[Path]:
    """The shards from number 0 on, up to the first that is missing."""
    found: list[Path] = []
    while (path := shard_path(folder, len(found))).is_dir():
        found.append(path)
    return found


@contextlib.contextmanager
def new_shard(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes ``path`` on success.

    Raises:
        ArtifactError: writing failed, as on a full disk; nothing of the shard stays.
    """
    try:
        with atomic_directory(path) as temporary:
            yield temporary
    except OSError as error:
        free = binary_size(shutil.disk_usage(path.parent).free) if path.parent.exists() else "nothing"
        raise ArtifactError(
            f"{path}: cannot be written ({error}; {free} free there): "
            "make room, and the same command goes on from this shard"
        ) from None
