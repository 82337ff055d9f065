"""`longgen pack`: from sources to rows, in a folder that knows what it was made from."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longgen.data.packing.configuration import check_names
from longgen.data.packing.documents import read_shard_file, read_tallies, tokenise
from longgen.data.packing.lookups import Lookups
from longgen.data.packing.methods import METHODS
from longgen.data.packing.packed import MANIFEST
from longgen.data.packing.readers import READERS
from longgen.data.packing.report import packing_records
from longgen.data.packing.rows import count_rows, write_rows
from longgen.data.packing.settings import PackSettings
from longgen.data.packing.shards import finished_shards
from longgen.data.packing.table import load_table
from longgen.data.packing.tokenizers import read_tokenizer, save_tokenizer
from longgen.errors import ConfigError
from longgen.files import read_mapping, write_json
from longgen.provenance import fingerprint

_IDENTITY = "packing.json"
_REPORT = "report.json"


@dataclass(frozen=True)
class Packing:
    """A finished packing.

    Attributes:
        records: of the results file (`longgen.data.packing.report`).
        bad: place and reason of the first bad records of every source.
        fingerprint: of all that determines the rows.
        written: False where an earlier call had finished it.
    """

    records: list[dict[str, Any]]
    bad: list[str]
    fingerprint: str
    written: bool


def pack(settings: PackSettings, folder: Path) -> Packing:
    """Read, tokenise and pack into ``folder``, going on where a call was interrupted; what is finished is left alone.

    Raises:
        ConfigError: a setting is impossible, or ``folder`` holds something else.
        ArtifactError: sources cannot be read, hold too little or too many bad records, or the disk is full.
    """
    check_names(settings)
    identity = settings.identity()
    # "inputs": the files of local sources, without which a corpus that changed would be mixed with what it was
    identity["inputs"] = {source.name: READERS[source.kind](source).identity() for source in settings.sources}
    if not (folder / _IDENTITY).exists():
        _start(settings, identity, folder)
    _check_same(identity, folder)
    if (folder / MANIFEST).exists():
        report = read_mapping(folder / _REPORT, "longgen pack", records=list, bad=list)
        return Packing(report["records"], report["bad"], fingerprint(identity), written=False)
    _remove_unfinished(folder)
    facts = read_tokenizer(settings, folder / "tokenizer")
    documents = folder / "documents"
    tokenise(settings, facts, documents)
    start = time.monotonic()
    shards = finished_shards(documents)
    table = load_table(shards, facts.dtype)
    plan = METHODS[settings.method](table, settings)
    lookups = _lookups(settings, folder / "tokenizer")
    write_rows(plan.streams, table, settings.shard_tokens, folder, lookups)
    tallies = read_tallies(shards, settings)
    seconds = time.monotonic() - start + sum(read_shard_file(shard)["seconds"] for shard in shards)
    records = packing_records(table, plan, tallies, settings, seconds)
    bad = [example for tally in tallies.values() for example in tally.examples]
    write_json(folder / _REPORT, {"records": records, "bad": bad})
    manifest = {
        "fingerprint": fingerprint(identity),
        "vocabulary_size": facts.vocabulary_size,
        "shard_tokens": settings.shard_tokens,
        "rows": {str(stream.length): count_rows(stream) for stream in plan.streams},
    }
    write_json(folder / MANIFEST, manifest)
    shutil.rmtree(documents)
    return Packing(records, bad, fingerprint(identity), written=True)


def _start(settings: PackSettings, identity: dict[str, Any], folder: Path) -> None:
    if folder.exists():
        others = sorted(path.name for path in folder.iterdir() if path.name[0] != "." and path.name != "tokenizer")
        if others:
            raise ConfigError(f"{folder} holds {others[0]}: allowed is a new folder, or one that `longgen pack` began")
    save_tokenizer(settings, folder / "tokenizer")
    write_json(folder / _IDENTITY, identity)


def _lookups(settings: PackSettings, tokenizer: Path) -> Lookups | None:
    if settings.lookups is None:
        return None
    from transformers import AutoTokenizer

    return Lookups(settings.lookups, AutoTokenizer.from_pretrained(tokenizer), settings.seed)


def _check_same(identity: dict[str, Any], folder: Path) -> None:
    earlier = read_mapping(folder / _IDENTITY, "longgen pack")
    differing = [key for key in identity if earlier.get(key) != identity[key]]
    if differing:
        raise ConfigError(
            f"{folder} was begun with other {', '.join(differing)}: go on with the same, or give another folder"
        )


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed call was writing: temporary siblings of shards (`longgen.files`), which start with a dot."""
    for pattern in (".*", "documents/.*", "rows/*/.*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
