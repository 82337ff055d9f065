"""Records of short-context tasks: from a local folder, or the stand-in ones that are shipped."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from longgen.errors import ArtifactError
from longgen.evaluation.sources import json_lines
from longgen.strict import load_yaml


@functools.cache
def stand_ins() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Hand-written records: family of tasks -> split -> records with the keys of the official data that are used."""
    with resources.as_file(resources.files(__package__) / "stand_in.yaml") as path:
        return load_yaml(path)


def stand_in_data(family: str) -> DatasetDict:
    """The stand-in records of a family of tasks."""
    return DatasetDict({split: Dataset.from_list(records) for split, records in stand_ins()[family].items()})


def own_data(family: str, task: str, data_root: Path) -> DatasetDict:
    """Records of a task from ``<data_root>/short-context/<task>/<split>.jsonl``.

    Args:
        family: whose stand-in records show which splits and keys are needed.
        task: lm-eval's name of it.
        data_root: the folder.

    Raises:
        ArtifactError: a file is missing or empty, or a record lacks a key or has a value of another type.
    """
    folder = data_root / "short-context" / task
    return DatasetDict(
        {
            split: Dataset.from_list(_read(folder / f"{split}.jsonl", records[0]))
            for split, records in stand_ins()[family].items()
        }
    )


def _read(path: Path, example: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: put the official records there, one JSON object per line")
    records = []
    with path.open("rb") as file:
        for place, record in json_lines(file, str(path)):
            if not isinstance(record, dict):
                raise ArtifactError(f"{place}: is {type(record).__name__}, allowed is a mapping")
            for key, value in example.items():
                if type(record.get(key)) is not type(value):
                    fault = f"is {record[key]!r}" if key in record else "is missing"
                    raise ArtifactError(f"{place}: {key} {fault}: allowed is a {type(value).__name__}")
            records.append({key: record[key] for key in example})  # others are not used, and may differ in type
    if not records:
        raise ArtifactError(f"{path} is empty: put the official records there, one JSON object per line")
    return records
