"""The checkpoint that a user names: a folder, a GGUF file, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from longgen.errors import ArtifactError, ConfigError
from longgen.modeling.conversion.gguf_file import GgufSource
from longgen.modeling.conversion.hub import open_repository
from longgen.modeling.conversion.source import FolderSource, Source

GGUF_SUFFIX = ".gguf"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def open_source(source: Path | str, revision: str | None = None, dtype: torch.dtype | None = None) -> Source:
    """The checkpoint that ``source`` names: an existing folder or GGUF file, or else the id of a hub repository.

    Args:
        source: path or id.
        revision: branch, tag or commit of a repository.
        dtype: what a GGUF file is dequantised to; other weights are cast later.

    Raises:
        ArtifactError: neither, no such repository, or one that cannot be reached and is not in the hub's cache.
        ConfigError: a ``revision`` of a folder or file; or as `GgufSource`.
    """
    path = Path(source)
    if path.is_dir() or path.is_file():
        kind = "folder" if path.is_dir() else "file"
        if revision is not None:
            raise ConfigError(f"revision is {revision!r} with the {kind} {path}: allowed is one with a hub id only")
        if path.is_dir():
            return FolderSource(path)
        if path.suffix != GGUF_SUFFIX:
            raise ArtifactError(f"{path} is a file: allowed is a {GGUF_SUFFIX} file, or the folder of a checkpoint")
        return GgufSource(path, dtype)
    if not HUB_ID.fullmatch(str(source)):
        raise ArtifactError(
            f"{source} has no config.json: give the folder of a Hugging Face checkpoint, or a hub id. Both were tried: "
            "it is no folder, and no id of the form org/name"
        )
    return open_repository(str(source), revision)
