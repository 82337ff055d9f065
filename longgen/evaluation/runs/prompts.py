"""First step of a run: the prompts of a task at a length, in a file that every model gets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.benchmarks import Benchmark
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.sources import json_fault
from longgen.files import atomic_file, read_json, read_mapping, write_json
from longgen.provenance import fingerprint
from longgen.strict import require

MADE_BY = "longgen benchmark prepare"
# Part of what prompts are made from: rises with every change of how they come about, so that older ones are made anew.
# 2: RULER's essays and counts, BABILong's stand-in texts and LongBench's cutting as one way to tokenise has them.
PREPARING = 2


@dataclass(frozen=True)
class PromptFile:
    """The prompts of one task at one length.

    Attributes:
        path: JSON lines, a `Sample` each; beside it, with suffix .json, what they were made from.
        fingerprint: of their contents.
        samples: how many.
        stand_in: they are made of text that is not the benchmark's own.
        made_from: what they were made from, as plain data.
    """

    path: Path
    fingerprint: str
    samples: int
    stand_in: bool
    made_from: dict[str, Any]

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
        kinds = {"fingerprint": str, "samples": int, "stand_in": bool, "made_from": dict}
        manifest = read_mapping(path.with_suffix(".json"), MADE_BY, **kinds)
        if not path.exists():
            raise ArtifactError(f"{path} is missing: `{MADE_BY}` makes it")
        return cls(path, *(manifest[name] for name in kinds))

    def __iter__(self) -> Iterator[Sample]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    sample = Sample(**json.loads(line))
                except (ValueError, TypeError) as error:
                    fault = (
                        "its fields are not those of a prompt" if isinstance(error, TypeError) else json_fault(error)
                    )
                    raise ArtifactError(
                        f"{self.path}:{number} is no sample ({fault}): `{MADE_BY}` makes it anew"
                    ) from None
                yield sample


def write_index(path: Path, files: list[PromptFile]) -> None:
    """Write which files of prompts belong together, with their fingerprints."""
    entries = [{"path": os.path.relpath(file.path, path.parent), "fingerprint": file.fingerprint} for file in files]
    write_json(path, {"prompts": entries})


def read_prompts(path: Path) -> list[PromptFile]:
    """All prompts below a folder, or those of a file that `write_index` wrote.

    Raises:
        ConfigError: there are none.
        ArtifactError: a file is missing or damaged.
    """
    if path.is_file():
        index = read_json(path, MADE_BY)
        try:
            paths = [path.parent / each["path"] for each in index["prompts"]]
        except (KeyError, TypeError):
            raise ConfigError(
                f"--prompts is '{path}', which lists no prompts: `{MADE_BY} --index` makes such a file"
            ) from None
    else:
        paths = sorted(path.rglob("*.jsonl"))
    if not paths:
        raise ConfigError(f"--prompts is '{path}', which holds no prompts: `{MADE_BY}` makes them")
    return [PromptFile.open(each) for each in paths]


def choose_prompts(files: list[PromptFile], tasks: Collection[str], lengths: Collection[int]) -> list[PromptFile]:
    """Those of ``tasks`` and of ``lengths`` in tokens; of all where none is named.

    Raises:
        ConfigError: one that is named has no prompts.
    """
    for option, key, selection in (("--task", "task", tasks), ("--length", "length", lengths)):
        have = dict.fromkeys(file.made_from[key] for file in files)
        for value in selection:
            require(value in have, option, value, ", ".join(map(str, have)))
        files = [file for file in files if not selection or file.made_from[key] in selection]
    return files


def prompt_settings(files: list[PromptFile]) -> list[dict[str, Any]]:
    """What was asked, without where it is from: for every task of a benchmark its lengths, samples and options."""
    settings: dict[str, dict[str, Any]] = {}
    for source in (file.made_from for file in files):
        one = {"benchmark": source["benchmark"], "task": source["task"], "samples": source["count"]} | source["options"]
        settings.setdefault(fingerprint(one), one | {"lengths": []})["lengths"].append(source["length"])
    return list(settings.values())


def prompt_hash(sample: Sample) -> str:
    """Tells whether an answer was given to this very prompt, under the same limits."""
    content = [sample.prompt, sample.max_new_tokens, sample.meta.get("stop")]
    content += [sample.meta[name] for name in ("special_tokens", "min_new_tokens") if sample.meta.get(name)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PromptSource:
    """What the prompts of all tasks and lengths of one call are made from.

    Attributes:
        benchmark: whose prompts they are.
        count: samples, or samples per depth where prompts have one.
        tokenizer: Hugging Face tokenizer, by which lengths are counted.
        tokenizer_fingerprint: of its files.
        seed: of all random choices.
        data_root: folder of the benchmarks' own data; None for stand-in data.
        folder: of all prompts.
        options: of the benchmark's ``prepare``: ``depths``.
        task_counts: of tasks that have another ``count``.
    """

    benchmark: Benchmark
    count: int
    tokenizer: Any
    tokenizer_fingerprint: str
    seed: int
    data_root: Path | None
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    task_counts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def _data(self) -> str | None:
        return _listing(self.data_root)

    def path(self, task: str, length: int | None) -> Path:
        """Where the prompts of a task at a length are; None is their natural length."""
        return self.folder / self.benchmark.name / f"{task}{'' if length is None else f'-{length}'}.jsonl"

    def made_from(self, task: str, length: int | None) -> dict[str, Any]:
        """What they depend on."""
        return {
            "preparing": PREPARING,
            "benchmark": self.benchmark.name,
            "task": task,
            "length": length,
            "count": self.task_counts.get(task, self.count),
            "tokenizer": self.tokenizer_fingerprint,
            "seed": self.seed,
            "data": self._data,
            "protocol": fingerprint(protocol(self.benchmark.name)),
            "options": self.options,
        }

    def is_there(self, task: str, length: int | None) -> bool:
        """Whether they have been made, from the same."""
        path = self.path(task, length)
        manifest = path.with_suffix(".json")
        if not manifest.exists() or not path.exists():
            return False
        return bool(read_mapping(manifest, MADE_BY, made_from=dict)["made_from"] == self.made_from(task, length))

    def ask(self, function: Callable[..., Any], task: str, length: int | None) -> Any:
        """``function``, the benchmark's ``prepare`` or ``check``, with all that it needs."""
        count = self.task_counts.get(task, self.count)
        return function(task, length, count, self.tokenizer, self.seed, self.data_root, **self.options)

    @contextmanager
    def naming_errors(self, task: str) -> Iterator[None]:
        """Errors within it name benchmark and task."""
        try:
            yield
        except (ArtifactError, ConfigError) as error:
            raise type(error)(f"{self.benchmark.name}, task {task}: {error}") from None


def write_prompts(source: PromptSource, task: str, length: int | None) -> PromptFile:
    """Make the prompts of a task, unless they are there, made from the same.

    Args:
        source: what they are made from.
        task: of the benchmark.
        length: in tokens; None where prompts have a natural length.

    Raises:
        ArtifactError, ConfigError: as the benchmark's ``prepare``.
    """
    path = source.path(task, length)
    if source.is_there(task, length):
        return PromptFile.open(path)
    digest, samples, stand_in = hashlib.sha256(), 0, False
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file, source.naming_errors(task):
        for sample in source.ask(source.benchmark.prepare, task, length):
            line = json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n"
            digest.update(line.encode())
            file.write(line)
            samples += 1
            stand_in |= sample.meta.get("stand_in", True)
    manifest = {"fingerprint": digest.hexdigest()[:16], "samples": samples, "stand_in": stand_in}
    write_json(path.with_suffix(".json"), manifest | {"made_from": source.made_from(task, length)})
    return PromptFile.open(path)


def check_prompts(source: PromptSource, tasks: Sequence[str], lengths: Sequence[int | None]) -> None:
    """Check that `write_prompts` can make all that is not there: every task at every length, before any is written.

    Raises:
        ConfigError: a length is too short, with one that would do for all tasks; or as the benchmark's ``prepare``.
        ArtifactError: as the benchmark's ``prepare``.
    """

    def check(task: str, length: int | None) -> int:
        with source.naming_errors(task):
            return int(source.ask(source.benchmark.check, task, length))

    for length in lengths:
        least_lengths: dict[str, int] = {}
        faults: list[str] = []
        for task in tasks:
            if not source.is_there(task, length):
                try:
                    least_lengths[task] = check(task, length)
                except ConfigError as error:  # no length helps; but that of the others is said as well
                    faults.append(str(error))
        if enough := max(least_lengths.values(), default=0):
            short = ", ".join(f"{task} {least:,}" for task, least in least_lengths.items() if least)
            while further := max(check(task, enough) for task in least_lengths):
                enough = further
            faults.insert(
                0,
                f"length is {length}: with this tokenizer allowed is {enough:,} or more for all tasks of "
                f"{source.benchmark.name} that were asked for (about {short})",
            )
        if faults:
            raise ConfigError("; ".join(faults[:2]))


def _listing(data_root: Path | None) -> str | None:
    """Tells whether files below the data root changed, without reading them."""
    if data_root is None or not data_root.is_dir():
        return None if data_root is None else str(data_root)  # a dataset on the hub
    files = sorted(path for path in data_root.rglob("*") if path.is_file())
    return fingerprint(
        [(str(path.relative_to(data_root)), path.stat().st_size, path.stat().st_mtime) for path in files]
    )
