"""First step of a run: the prompts of a task at a length, in a file that every model gets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError, ConfigError, LongGenError
from longgen.evaluation.benchmarks import Benchmark
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.sources import json_fault
from longgen.files import atomic_file, read_json, read_mapping, write_json
from longgen.provenance import fingerprint

MADE_BY = "longgen benchmark prepare"


@dataclass(frozen=True)
class PromptFile:
    """The prompts of one task at one length.

    Attributes:
        path: JSON lines, a `Sample` each; beside it, with suffix .json, what they were made from.
        fingerprint: of their contents.
        samples: how many.
        stand_in: they are made of text that is not the benchmark's own.
    """

    path: Path
    fingerprint: str
    samples: int
    stand_in: bool

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return self.path.parent.name

    @classmethod
    def open(cls, path: Path) -> PromptFile:
        """What `write_prompts` made.

        Raises:
            ArtifactError: missing or damaged.
        """
        manifest = read_mapping(path.with_suffix(".json"), MADE_BY, fingerprint=str, samples=int, stand_in=bool)
        if not path.exists():
            raise ArtifactError(f"{path} is missing: `{MADE_BY}` makes it")
        return cls(path, manifest["fingerprint"], manifest["samples"], manifest["stand_in"])

    def __iter__(self) -> Iterator[Sample]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                fault, sample = "its fields are not those of a prompt", None
                try:
                    sample = Sample(**json.loads(line))
                except ValueError as error:
                    fault = json_fault(error)
                except TypeError:
                    pass
                if sample is None:
                    raise ArtifactError(f"{self.path}:{number} is no sample ({fault}): `{MADE_BY}` makes it anew")
                yield sample


def write_index(path: Path, files: list[PromptFile]) -> None:
    """Write which files of prompts belong together, with their fingerprints."""
    listed = [{"path": os.path.relpath(file.path, path.parent), "fingerprint": file.fingerprint} for file in files]
    write_json(path, {"prompts": listed})


def read_prompts(path: Path) -> list[PromptFile]:
    """All prompts below a folder, or those of a file that `write_index` wrote.

    Raises:
        ConfigError: there are none.
        ArtifactError: a file is missing or damaged.
    """
    if path.is_file():
        listed = read_json(path, MADE_BY)
        try:
            paths = [path.parent / each["path"] for each in listed["prompts"]]
        except (KeyError, TypeError):
            raise ConfigError(
                f"--prompts is '{path}', which lists no prompts: `{MADE_BY} --index` makes such a file"
            ) from None
    else:
        paths = sorted(path.rglob("*.jsonl"))
    if not paths:
        raise ConfigError(f"--prompts is '{path}', which holds no prompts: `{MADE_BY}` makes them")
    return [PromptFile.open(each) for each in paths]


def prompt_hash(sample: Sample) -> str:
    """Tells whether an answer was given to this very prompt, under the same limits."""
    asked = [sample.prompt, sample.max_new_tokens, sample.meta.get("stop")]
    asked += [True] if sample.meta.get("special_tokens") else []
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def write_prompts(
    chosen: Benchmark,
    task: str,
    length: int | None,
    count: int,
    tokenizer: Any,
    tokenizer_fingerprint: str,
    seed: int,
    data_root: Path | None,
    folder: Path,
    **options: Any,
) -> PromptFile:
    """Make the prompts of a task below ``folder``, unless they are there, made from the same.

    Args:
        chosen: the benchmark.
        task: of it.
        length: in tokens; None where prompts have a natural length.
        count: samples, or samples per depth (`longgen.evaluation.needle`).
        tokenizer: Hugging Face tokenizer, by which lengths are counted.
        tokenizer_fingerprint: of its files.
        seed: of all random choices.
        data_root: folder of the benchmarks' own data; None for stand-in data.
        folder: of all prompts.
        **options: of the benchmark's ``prepare``: ``depths`` of needles.

    Raises:
        ArtifactError, ConfigError: as the benchmark's ``prepare``.
    """
    path = _path(folder, chosen, task, length)
    made_from = _made_from(chosen, task, length, count, tokenizer_fingerprint, seed, data_root, options)
    if _is_there(path, made_from):
        return PromptFile.open(path)
    digest, samples, stand_in = hashlib.sha256(), 0, False
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        try:
            for sample in chosen.prepare(task, length, count, tokenizer, seed, data_root, **options):
                line = json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n"
                digest.update(line.encode())
                file.write(line)
                samples += 1
                stand_in |= sample.meta.get("stand_in", True)
        except LongGenError as error:
            raise type(error)(f"{chosen.name}, task {task}: {error}") from None
    described = {"fingerprint": digest.hexdigest()[:16], "samples": samples, "stand_in": stand_in}
    write_json(path.with_suffix(".json"), described | {"made_from": made_from})
    return PromptFile.open(path)


def check_prompts(
    chosen: Benchmark,
    tasks: Sequence[str],
    lengths: Sequence[int | None],
    count: int,
    tokenizer: Any,
    tokenizer_fingerprint: str,
    seed: int,
    data_root: Path | None,
    folder: Path,
    **options: Any,
) -> None:
    """Check that `write_prompts` can make all that is not there: every task at every length, before any is written.

    Args: as `write_prompts`, for several tasks and lengths.

    Raises:
        ConfigError: a length is too short, with one that would do for all tasks; or as the benchmark's ``prepare``.
        ArtifactError: as the benchmark's ``prepare``.
    """

    def check(task: str, length: int | None) -> int:
        try:
            return chosen.check(task, length, count, tokenizer, seed, data_root, **options)
        except LongGenError as error:
            raise type(error)(f"{chosen.name}, task {task}: {error}") from None

    for length in lengths:
        made_from = (length, count, tokenizer_fingerprint, seed, data_root, options)
        needed: dict[str, int] = {}
        faults: list[str] = []
        for task in tasks:
            if not _is_there(_path(folder, chosen, task, length), _made_from(chosen, task, *made_from)):
                try:
                    needed[task] = check(task, length)
                except ConfigError as error:  # no length helps; but that of the others is said as well
                    faults.append(str(error))
        if enough := max(needed.values(), default=0):
            short = ", ".join(f"{task} {least:,}" for task, least in needed.items() if least)
            while further := max(check(task, enough) for task in needed):
                enough = further
            faults.insert(
                0,
                f"length is {length}: with this tokenizer allowed is {enough:,} or more for all tasks of {chosen.name} "
                f"that were asked for (about {short})",
            )
        if faults:
            raise ConfigError("; ".join(faults[:2]))


def _path(folder: Path, chosen: Benchmark, task: str, length: int | None) -> Path:
    return folder / chosen.name / f"{task}{'' if length is None else f'-{length}'}.jsonl"


def _made_from(
    chosen: Benchmark,
    task: str,
    length: int | None,
    count: int,
    tokenizer_fingerprint: str,
    seed: int,
    data_root: Path | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """What prompts depend on."""
    return {
        "benchmark": chosen.name,
        "task": task,
        "length": length,
        "count": count,
        "tokenizer": tokenizer_fingerprint,
        "seed": seed,
        "data": _listing(data_root),
        "protocol": fingerprint(protocol(chosen.name)),
        "options": options,
    }


def _is_there(path: Path, made_from: dict[str, Any]) -> bool:
    manifest = path.with_suffix(".json")
    return manifest.exists() and path.exists() and read_json(manifest, MADE_BY)["made_from"] == made_from


def _listing(data_root: Path | None) -> str | None:
    """Tells whether files below the data root changed, without reading them."""
    if data_root is None or not data_root.is_dir():
        return None if data_root is None else str(data_root)  # a dataset on the hub
    files = sorted(path for path in data_root.rglob("*") if path.is_file())
    return fingerprint(
        [(str(path.relative_to(data_root)), path.stat().st_size, path.stat().st_mtime) for path in files]
    )
