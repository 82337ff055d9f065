"""A repository of the Hugging Face hub as a source: asked first, downloaded file by file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
from huggingface_hub import errors

from longgen.errors import ArtifactError
from longgen.foreign import first_line
from longgen.modeling.conversion.safetensors_file import TensorInfo, tensor_info
from longgen.modeling.conversion.source import CONFIG, FolderSource, Source, read_mapping


def open_repository(repository: str, revision: str | None = None) -> Source:
    """The repository at ``revision``, pinned to its commit; where the hub is out of reach, its snapshot in the cache.

    Raises:
        ArtifactError: not found, no access, or out of reach and not in the cache.
    """
    try:
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        _explain(error, repository, revision)
    # offline by setting, no connection, server down ...: each has its own exception, by version of the library
    except Exception as error:
        return _cached(repository, revision, error)
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
    return HubSource(repository, str(info.sha), sizes)


class HubSource:
    """See `Source`; its methods raise ArtifactError where a request fails."""

    temporary = True
    path: Path | None = None
    weights: str | None = None

    def __init__(self, repository: str, revision: str, sizes: dict[str, int]) -> None:
        self.name = self.where = repository
        self.revision: str | None = revision
        self.config = f"{repository}/{CONFIG}"
        self._sizes = sizes

    def sizes(self) -> dict[str, int]:
        """See `Source`."""
        return self._sizes

    def identity(self, name: str) -> dict[str, int]:
        """The size alone: the commit says the rest."""
        return {"size": self._sizes[name]}

    def file(self, name: str, scratch: Path) -> Path:
        """See `Source`; a file that the hub's cache holds is copied from there."""
        try:
            return Path(huggingface_hub.hf_hub_download(self.name, name, revision=self.revision, local_dir=scratch))
        except Exception as error:  # as above
            _explain(error, self.name, self.revision)

    def read_json(self, name: str) -> dict[str, Any]:
        """See `Source`."""
        with tempfile.TemporaryDirectory() as scratch:
            return read_mapping(self.file(name, Path(scratch)))

    def tensors(self, name: str) -> dict[str, TensorInfo]:
        """See `Source`; asks for the first bytes of the file only."""
        try:
            header = huggingface_hub.HfApi().parse_safetensors_file_metadata(self.name, name, revision=self.revision)
        except errors.SafetensorsParsingError as error:
            raise ArtifactError(f"{name} of {self.name} has no readable safetensors header: {error}") from error
        except Exception as error:  # as above
            _explain(error, self.name, self.revision)
        return {
            tensor: tensor_info(f"{name} of {self.name}", tensor, info.dtype, info.shape, info.data_offsets)
            for tensor, info in header.tensors.items()
        }


def _cached(repository: str, revision: str | None, reason: Exception) -> Source:
    try:
        # only config.json is asked for: what else is needed, and whether it is there, is checked as for any folder
        folder = Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision, local_files_only=True, allow_patterns=[CONFIG]
            )
        )
    except errors.LocalEntryNotFoundError:
        _explain(reason, repository, revision)
    return FolderSource(folder, repository, folder.name)


def _explain(error: Exception, repository: str, revision: str | None) -> NoReturn:
    """Raise what the user can do about ``error``. The order matters: gated is a kind of not found."""
    if isinstance(error, errors.GatedRepoError):
        text = f"{repository} is gated: accept its terms on its page at the hub, then `hf auth login`"
    elif isinstance(error, errors.RepositoryNotFoundError):
        text = (
            f"{repository} was not found: neither a folder of this path nor a repository of the hub "
            "(one that is private needs `hf auth login`)"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        text = f"revision is {revision!r}: {repository} has no such branch, tag or commit"
    else:
        reason = first_line(error)
        text = (
            f"{repository} is no folder, and the hub did not give it ({reason}): give a folder, or "
            "download the repository where there is a connection"
        )
    raise ArtifactError(text) from error
