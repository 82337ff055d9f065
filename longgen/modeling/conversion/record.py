"""`longgen_conversion.json`: what a converted folder was made from, so that a second call knows its own work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longgen import __version__
from longgen.errors import ArtifactError
from longgen.files import read_json, write_json

RECORD = "longgen_conversion.json"


@dataclass(frozen=True)
class ConversionRecord:
    """What a folder was converted from, and by which options.

    Attributes:
        source: name and revision of the checkpoint, and the identity of every file that was read
            (`Source.identity`); no path of the machine.
        request: what was asked for.
        longgen_version: of the package that converted.
    """

    source: dict[str, Any]
    request: dict[str, Any]
    longgen_version: str = __version__

    def save(self, folder: Path) -> None:
        """Write the record of ``folder``, with the size of every file that makes the model."""
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if _is_model(path)}
        write_json(folder / RECORD, asdict(self) | {"made": sizes})

    def check_result(self, folder: Path) -> bool:
        """Whether ``folder`` is the complete result of this conversion.

        Raises:
            ArtifactError: it is something else; the message says what differs.
        """
        advice = "give --overwrite to replace it"
        if not (folder / RECORD).is_file():
            raise ArtifactError(f"{folder} exists and is no result of `longgen convert`: {advice}")
        earlier = read_json(folder / RECORD, "longgen convert")
        if not isinstance(earlier, dict):
            raise ArtifactError(f"{folder / RECORD} is no mapping: {advice}")
        for key, value in asdict(self).items():
            changed = _difference(earlier.get(key), value, key)
            if changed:
                raise ArtifactError(f"{folder} exists and is the result of another conversion ({changed}): {advice}")
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        for name, size in (earlier.get("made") or {}).items():
            if sizes.get(name) != size:
                raise ArtifactError(f"{folder} exists, but its {name} is missing or was changed: {advice}")
        return True


def _is_model(path: Path) -> bool:
    return path.name == "config.json" or ".safetensors" in path.suffixes


def _difference(earlier: Any, now: Any, key: str) -> str:
    """The first leaf that differs, in words; empty if there is none."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for name in sorted(earlier.keys() | now.keys()):
            changed = _difference(earlier.get(name), now.get(name), f"{key}.{name}")
            if changed:
                return changed
        return ""
    return "" if earlier == now else f"{key} is {now!r} now and was {earlier!r}"
