"""BABILong's records, from a local folder or the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longgen.data.packing.source_files import data_package
from longgen.errors import ArtifactError
from longgen.evaluation.babilong.scoring import require_scorable
from longgen.evaluation.sources import checked, hub_dataset, json_lines, require_field

# 100 samples of every task and length; the same with 1,000 up to 32k is RMT-team/babilong-1k-samples.
DATASET = "RMT-team/babilong"
FOLDER = "babilong"  # below the data root
# length in tokens -> its name in the benchmark
CONFIGS = {0: "0k"} | {1024 << n: f"{1 << n}k" for n in range(10)} | {1 << 20: "1M", 10 << 20: "10M"}


@dataclass(frozen=True)
class BabilongRecord:
    """A record with the keys of the official data: the text with the facts in it, the question, the right answer."""

    input: str
    question: str
    target: str


def load_records(task: str, config: str, data_root: Path) -> list[BabilongRecord]:
    """All records of a task at a length, in the order of the file.

    Args:
        task: ``qa1`` .. ``qa20``.
        config: name of the length, one of `CONFIGS`.
        data_root: a folder that holds ``babilong/<config>/<task>`` as .json, .jsonl or .parquet; ``hub:`` or
            ``hub:owner/name[@revision]`` for the hub.

    Raises:
        ArtifactError: a file is missing or cannot be had, or a record is bad.
        ConfigError: Parquet or the hub is wanted, and `datasets` is not installed.
    """
    if hub := hub_dataset(data_root, DATASET):
        rows = _from_hub(*hub, task, config)
    else:
        stem = data_root / FOLDER / config / task
        paths = [path for suffix in _READERS if (path := stem.parent / f"{task}{suffix}").is_file()]
        if len(paths) != 1:
            file_names = " and ".join(path.name for path in paths) or "none"
            raise ArtifactError(
                f"{stem} with suffix {', '.join(_READERS)}: found {file_names}, allowed is one of them; without "
                f"{data_root / FOLDER}, texts are made of {data_root}/babi and {data_root}/books (docs/babilong.md)"
            )
        rows = _READERS[paths[0].suffix](paths[0])
    records = []
    for place, row in rows:
        record = checked(BabilongRecord, row, place)
        for name, text in (("input", record.input), ("question", record.question)):
            require_field(bool(text.strip()), place, name, text, "text that is not blank")
        require_scorable(task, record.question, record.target, place, "target")
        records.append(record)
    if not records:
        raise ArtifactError(f"{task} of {config} in {data_root} has no records")
    return records


def _from_json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list):
        raise ArtifactError(f"{path}: is {type(rows).__name__}, allowed is a list of records")
    return ((f"{path}, record {number}", row) for number, row in enumerate(rows, 1))


def _from_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        yield from json_lines(file, str(path))


def _from_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    return _with_datasets(str(path), path="parquet", data_files=[str(path)], split="train")


def _from_hub(dataset: str, revision: str | None, task: str, config: str) -> Iterator[tuple[str, Any]]:
    return _with_datasets(f"{dataset}, {config}, {task}", path=dataset, name=config, split=task, revision=revision)


def _with_datasets(place: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    datasets = data_package("datasets")
    try:
        rows = list(datasets.load_dataset(streaming=True, **arguments))
    # datasets passes on whatever file systems, decoders and the network raise
    except Exception as error:
        raise ArtifactError(f"{place}: cannot be read ({type(error).__name__}: {error})") from None
    return ((f"{place}, record {number}", row) for number, row in enumerate(rows, 1))


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".json": _from_json,
    ".jsonl": _from_jsonl,
    ".parquet": _from_parquet,
}
