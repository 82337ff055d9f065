"""Results files: one JSON per measurement, from which every figure, table and claim is a pure function."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError, ConfigError
from longgen.files import check_fields, read_json, write_json
from longgen.records.kinds import kind_of
from longgen.records.schema import check_record, row_of

SCHEMA_VERSION = 1
RESULTS = Path("results")
PUBLISHED = RESULTS / "published"


@dataclass(frozen=True)
class Result:
    """One measurement (or prediction: kind ``plan`` alone).

    Attributes:
        kind: what was measured, one of `longgen.records.kinds`.
        run: name of the run, e.g. ``smoke``.
        records: of the class of the kind's records (`longgen.records`), or rows of plain values as it declares them;
            what is read from a file is the latter.
        provenance: see `longgen.provenance.provenance`.
        variant: the model variant, or None where the rows name it or there is none.
        settings: what was set for this measurement, as plain data.
    """

    kind: str
    run: str
    records: list[Any]
    provenance: dict[str, Any]
    variant: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def save_result(path: Path | str, result: Result) -> None:
    """Write ``result`` as JSON, atomically.

    Raises:
        TypeError: a record is not what its kind declares, which is a fault of the code that made it.
    """
    kind, records = kind_of(result.kind), [each if isinstance(each, dict) else row_of(each) for each in result.records]
    for number, record in enumerate(records):
        check_record(kind.record, record, f"{path}: records[{number}]")
    write_json(path, asdict(replace(result, records=records)))


def load_result(path: Path | str, made_by: str = "snakemake --cores all") -> Result:
    """Read a results file.

    Raises:
        ArtifactError: missing, not JSON, another schema version, or not the fields of `Result`.
    """
    value = read_json(path, made_by)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        what = "is no results file" if version is None else f"has schema_version {version!r}"
        raise ArtifactError(f"{path} {what}: this longgen reads those of schema_version {SCHEMA_VERSION}")
    try:
        result = Result(**value)
    except TypeError as error:
        raise ArtifactError(f"{path}: not a results file ({error}); `{made_by}` makes it anew") from None
    fields = {"kind": str, "run": str, "records": list, "provenance": dict, "settings": dict}
    check_fields(path, vars(result), f"`{made_by}` makes it anew", **fields)
    for number, record in enumerate(result.records):
        check_fields(f"{path}: records[{number}]", record, f"`{made_by}` makes it anew")
    return result


def typed_records(path: Path | str, result: Result) -> list[Any]:
    """The records of a ``result`` that was read from ``path``, as the class that its kind declares.

    Raises:
        ArtifactError: a record is not what its kind declares.
    """
    record = kind_of(result.kind).record
    try:
        for number, row in enumerate(result.records):
            check_record(record, row, f"{path}: records[{number}]")
    except TypeError as error:
        raise ArtifactError(str(error)) from None
    return [record(**row) for row in result.records]


def load_results(folder: Path | str) -> list[Result]:
    """All results files below ``folder``, in path order.

    Raises:
        ArtifactError: the folder is missing or holds none, or a file in it is not a results file.
    """
    folder = Path(folder)
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise ArtifactError(f"{folder} holds no results: `snakemake --cores all` makes them")
    return [load_result(path) for path in paths]


def check_run_name(name: str) -> str:
    """``name`` if it is usable as a folder name everywhere; raises ConfigError otherwise."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or name == PUBLISHED.name:
        raise ConfigError(f"name is {name!r}: allowed are a-z, 0-9, '.', '_', '-', and not '{PUBLISHED.name}'")
    return name


def run_folder(run: str) -> Path:
    """``results/<run>``, or ``results/published/<name>`` for ``published/<name>``, below the current folder."""
    head, _, name = run.rpartition("/")
    if head not in ("", PUBLISHED.name):
        raise ConfigError(f"run is {run!r}: allowed is NAME or {PUBLISHED.name}/NAME")
    return (PUBLISHED if head else RESULTS) / check_run_name(name)
