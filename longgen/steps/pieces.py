"""What a run needs to go on elsewhere, in a flat folder of a few small files.

`pieces.json` names them with their checksums. Each thing that is kept is a compressed tar file, cut into pieces;
nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from longgen.errors import ArtifactError
from longgen.files import atomic_directory, read_json, write_json

MANIFEST, FORMAT = "pieces.json", 1
# Of a file; of all of them, the manifest included. Our choices, for machines that give back no more.
PIECE_BYTES, MOST_FILES, MOST_BYTES = 15_000_000, 8, 60_000_000
MANIFEST_BYTES = 10_000  # that are left for it

MADE_BY = "python -m longgen.steps CONFIG --pieces FOLDER"


@dataclass(frozen=True)
class Item:
    """Something to keep: a name for its files, of letters, digits, ``.``, ``_`` and ``-``; and files and folders."""

    name: str
    paths: list[Path]


def save_pieces(folder: Path, run: str, saved: float, roots: Mapping[str, Path], items: Sequence[Item]) -> list[str]:
    """Write ``items`` to ``folder``, in the place of what is there, as far as they fit.

    Args:
        folder: of the pieces.
        run: whose they are.
        saved: when what they hold was made, in seconds since 1970.
        roots: names of the folders that the items lie in: `load_pieces` gets others for the same names.
        items: the most important first.

    Returns:
        names of the items that do not fit, whole, in `MOST_FILES` and `MOST_BYTES`.

    Raises:
        ArtifactError: the first one does not.
    """
    left_out: list[str] = []
    checksums: dict[str, dict[str, str]] = {}
    files, size = MOST_FILES - 1, MOST_BYTES - MANIFEST_BYTES
    with atomic_directory(folder) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent) as workspace:
        for item in items:
            archive = _archive(item, roots, Path(workspace))
            length = archive.stat().st_size
            if length > size or -(-length // PIECE_BYTES) > files:
                left_out.append(item.name)
                continue
            pieces = _cut(archive, item.name, temporary)
            files, size = files - len(pieces), size - length
            checksums[item.name] = pieces
        if items and items[0].name in left_out:
            raise ArtifactError(f"{items[0].name} of run {run} does not fit in {MOST_BYTES:,} bytes of pieces")
        write_json(temporary / MANIFEST, {"format": FORMAT, "run": run, "saved": saved, "items": checksums})
    return left_out


def load_pieces(folder: Path, run: str, newer_than: float, roots: Mapping[str, Path]) -> bool:
    """Unpack what `save_pieces` wrote, in the place of what is there, unless that is as new.

    Args:
        folder: of the pieces.
        run: whose they must be.
        newer_than: when what is there was made, in seconds since 1970; 0 if nothing is.
        roots: folders by the names that `save_pieces` was given; each is replaced whole.

    Returns:
        whether they were unpacked.

    Raises:
        ArtifactError: the pieces are damaged or of another run, or there is something that no such run made.
    """
    manifest = read_json(folder / MANIFEST, MADE_BY)
    items = _checked(folder, manifest, run)
    if manifest["saved"] <= newer_than:
        return False
    for root in roots.values():
        if not newer_than and root.exists() and any(root.iterdir()):
            raise ArtifactError(f"{root} was not made by longgen.steps, and pieces would replace it: move it away")
    with tempfile.TemporaryDirectory(dir=folder.parent) as workspace:
        unpacked = Path(workspace) / "unpacked"
        for name, pieces in items.items():
            archive = Path(workspace) / "archive"
            with archive.open("wb") as joined:
                for piece in pieces:
                    joined.write((folder / piece).read_bytes())
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(unpacked, filter="data")
            except (tarfile.TarError, OSError, EOFError) as error:
                raise ArtifactError(f"{folder}: {name} is damaged ({error}): delete the folder") from None
        for name, root in roots.items():
            with atomic_directory(root) as temporary:
                if (unpacked / name).exists():
                    shutil.copytree(unpacked / name, temporary, dirs_exist_ok=True)
    return True


def _archive(item: Item, roots: Mapping[str, Path], workspace: Path) -> Path:
    archive = workspace / f"{item.name}.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in item.paths:
            name, root = next((name, root) for name, root in roots.items() if path.is_relative_to(root))
            tar.add(path, f"{name}/{path.relative_to(root)}")
    return archive


def _cut(archive: Path, name: str, folder: Path) -> dict[str, str]:
    """Cut a file into pieces; their names with checksums, in order."""
    checksums: dict[str, str] = {}
    with archive.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            path = folder / f"{name}.tar.gz-{len(checksums)}"
            path.write_bytes(piece)
            checksums[path.name] = hashlib.sha256(piece).hexdigest()
    return checksums


def _checked(folder: Path, manifest: object, run: str) -> dict[str, dict[str, str]]:
    """The items of a manifest, all of whose pieces are there as they were written."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{folder / MANIFEST}: not of format {FORMAT}, which this longgen reads")
    if manifest.get("run") != run:
        raise ArtifactError(f"{folder} has pieces of run {manifest.get('run')!r}: allowed are those of {run!r}")
    items: dict[str, dict[str, str]] = manifest["items"]
    expected = {name: checksum for pieces in items.values() for name, checksum in pieces.items()}
    for path in folder.iterdir():
        if path.name not in (MANIFEST, *expected):
            raise ArtifactError(f"{path} is none of the pieces that {MANIFEST} names: move it away")
    for name, checksum in expected.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise ArtifactError(f"{path} is missing or damaged: copy the folder again, or delete it to begin anew")
    return items
