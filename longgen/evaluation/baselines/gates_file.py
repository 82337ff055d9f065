"""The gates of DuoAttention in a file: learned once on a model, used in every evaluation of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from longgen.errors import ArtifactError, ConfigError
from longgen.files import fingerprint_files, read_json, write_json
from longgen.pattern import SparsePattern

MADE_BY = "longgen gates CONFIG --model MODEL --output FILE"


class Gates(NamedTuple):
    """What was learned; ``method_for_budget("duo-attention", ..., gates=..., pattern=...)`` takes it.

    Attributes:
        gates: for every layer from the bottom up, one number within 0..1 per KV head.
        pattern: of streaming heads.
        settings: how they were learned, as plain data.
    """

    gates: tuple[tuple[float, ...], ...]
    pattern: SparsePattern
    settings: dict[str, Any]


def weights_fingerprint(model: Path) -> str:
    """Of the weights in a model's folder: what tells whose gates they are."""
    return fingerprint_files(sorted(model.glob("*.safetensors")))


def save_gates(path: Path, gates: Gates, model: Path, provenance: dict[str, Any]) -> None:
    """Write gates that were learned on the model in folder ``model`` as JSON, atomically."""
    rows = [list(layer) for layer in gates.gates]
    content = {"pattern": gates.pattern.to_dict(), "gates": rows, "settings": gates.settings}
    write_json(path, {"model": weights_fingerprint(model)} | content | {"provenance": provenance})


def read_gates(path: Path, model: Path) -> Gates:
    """The gates in a file of `save_gates`.

    Args:
        path: the file.
        model: folder of the model that they are to be used with.

    Raises:
        ArtifactError: the file is missing or damaged, or of other weights.
    """
    content = read_json(path, MADE_BY)
    try:
        owner, pattern = content["model"], SparsePattern(**content["pattern"])
        gates = tuple(tuple(map(float, layer)) for layer in content["gates"])
        settings = dict(content["settings"])
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise ArtifactError(f"{path} holds no gates ({error}): `{MADE_BY}` makes them") from None
    weights = weights_fingerprint(model)
    if owner != weights:
        raise ArtifactError(
            f"{path} has gates of the weights {owner}: {model} has {weights}, `{MADE_BY}` learns its own"
        )
    return Gates(gates, pattern, settings)
