"""Where a checkpoint comes from: a folder, or a repository of the Hugging Face hub (`hub`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from longgen.errors import ArtifactError
from longgen.modeling.conversion.safetensors_file import TensorInfo, read_header

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"

# What travels with the weights: tokenizer, generation defaults, chat templates, terms of use.
COMPANION_FILES = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken"),
    *(GENERATION_CONFIG, "*.jinja", "chat_template*", "additional_chat_templates/*.jinja"),
    *("LICENSE*", "LICENCE*", "License*", "license*", "NOTICE*", "Notice*", "USE_POLICY*"),
)
NEVER_COMPANIONS = (".bin", ".pt", ".pth", ".pkl", ".py", ".safetensors")


class Source(Protocol):
    """Files of one checkpoint.

    Attributes:
        name: the folder's name or the repository's id: nothing of the user's machine.
        revision: commit of the repository; None for a folder.
        where: for error messages: the path, or the id.
        config: for error messages: where the config stands.
        path: of the folder or file on this machine; None for a repository.
        weights: what became of the weights on reading, for the model card; None if they are as they were.
        temporary: whether the files that `file` gives are temporary, ours to move or delete.
    """

    name: str
    revision: str | None
    where: str
    config: str
    path: Path | None
    weights: str | None
    temporary: bool

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its path within the checkpoint."""
        ...

    def identity(self, name: str) -> dict[str, int]:
        """What tells this version of a file from another one, without reading it."""
        ...

    def file(self, name: str, scratch: Path) -> Path:
        """A path where file ``name`` can be read; a download goes below ``scratch``."""
        ...

    def read_json(self, name: str) -> dict[str, Any]:
        """The mapping in a small file. Raises ArtifactError if it is not one."""
        ...

    def tensors(self, name: str) -> dict[str, TensorInfo]:
        """The header of safetensors file ``name``. Raises ArtifactError if it is damaged."""
        ...


class FolderSource:
    """A folder. One that is a snapshot in the hub's cache has the id as its ``name``, and a ``revision``."""

    temporary = False
    weights: str | None = None

    def __init__(self, folder: Path, name: str | None = None, revision: str | None = None) -> None:
        self.folder = folder
        self.path: Path | None = folder
        self.config = str(folder / CONFIG)
        self.name = name or folder.resolve().name
        self.revision = revision
        self.where = str(folder)

    def sizes(self) -> dict[str, int]:
        """See `Source`."""
        files = [path for path in (*self.folder.glob("*"), *self.folder.glob("*/*")) if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in sorted(files)}

    def identity(self, name: str) -> dict[str, int]:
        """Size and time of the last change, as rsync's quick check; a commit needs only the size."""
        stat = (self.folder / name).stat()
        return {"size": stat.st_size} | ({} if self.revision else {"mtime_ns": stat.st_mtime_ns})

    def file(self, name: str, scratch: Path) -> Path:
        """See `Source`."""
        return self.folder / name

    def read_json(self, name: str) -> dict[str, Any]:
        """See `Source`."""
        return read_mapping(self.folder / name)

    def tensors(self, name: str) -> dict[str, TensorInfo]:
        """See `Source`."""
        return read_header(self.folder / name).tensors


def companion_names(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that travel with the weights, by `COMPANION_FILES`."""
    return sorted(
        name
        for name in names
        if not name.endswith(NEVER_COMPANIONS)
        and any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in COMPANION_FILES)
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises ArtifactError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not readable as JSON ({error}): get the file anew") from None
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} is no mapping: get the file anew")
    return values


def check_generation_config(source: Source) -> None:
    """Check the file of generation defaults, if there is one; transformers passes over one that is damaged.

    It would then go by config.json in silence, and answers would end elsewhere.

    Raises:
        ArtifactError: it is no JSON object, or its end-of-text tokens are none.
    """
    if GENERATION_CONFIG not in source.sizes():
        return
    ends = source.read_json(GENERATION_CONFIG).get("eos_token_id")
    tokens = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(type(token) is int and token >= 0 for token in tokens):
        raise ArtifactError(
            f"{source.where}/{GENERATION_CONFIG}: eos_token_id is {ends!r}: allowed is a token id from 0 up, a list of "
            "them, or null"
        )
