"""Shards: numbered folders, each written whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from longgen.files import atomic_directory


def shard_path(folder: Path, number: int) -> Path:
    """The folder of a shard."""
    return folder / f"{number:05d}"


def finished_shards(folder: Path) -> list[Path]:
    """The shards from number 0 on, up to the first that is missing."""
    shards: list[Path] = []
    while (path := shard_path(folder, len(shards))).is_dir():
        shards.append(path)
    return shards


def new_shard(path: Path) -> AbstractContextManager[Path]:
    """An empty folder to fill; it becomes ``path`` on success.

    Raises:
        OutputError: writing failed, as on a full disk; nothing of the shard stays.
    """
    return atomic_directory(path, "make room, and the same command goes on from this shard")
