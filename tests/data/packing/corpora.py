"""Small corpora and settings for tests of packing."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from longgen.data.packing.pack import Packing, pack
from longgen.data.packing.packed import PackedRows
from longgen.data.packing.settings import LongSourceSettings, PackSettings, UpsamplingSettings
from longgen.data.synthetic.tokenizer import decode_bytes
from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID

THRESHOLD = 64
DOMAINS = ("RedPajamaBook", "RedPajamaC4", "RedPajamaGithub")


def slimpajama(text: str, domain: str) -> dict[str, Any]:
    """A record in the schema of SlimPajama-627B."""
    return {"text": text, "meta": {"redpajama_set_name": domain}}


def write_jsonl(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def documents(count: int, seed: int = 0, shares: tuple[float, ...] = (0.2, 0.5, 0.3)) -> list[dict[str, Any]]:
    """Documents that are all different, of 5 to 500 bytes, in SlimPajama's schema."""
    generator = np.random.default_rng(seed)
    lengths = np.exp(generator.uniform(np.log(5), np.log(500), count)).astype(int)
    domains = generator.choice(DOMAINS, count, p=shares)
    texts = [f"{number}:" + "x" * int(length) for number, length in enumerate(lengths)]
    return [slimpajama(text, str(domain)) for text, domain in zip(texts, domains, strict=True)]


def source(path: Path, **changes: Any) -> LongSourceSettings:
    given = {"name": "corpus", "kind": "jsonl", "source_field": "meta.redpajama_set_name"}
    return LongSourceSettings(**(given | {"path": str(path)} | changes))


def settings(*sources: LongSourceSettings, **changes: Any) -> PackSettings:
    given: dict[str, Any] = {
        "name": "test",
        "tokenizer": "bytes",
        "method": "cut",
        "lengths": [100],
        "token_budget": 10_000,
        "shard_tokens": 3_000,
    }
    return PackSettings(sources=list(sources), **(given | changes))


def upsampled(base: PackSettings, method: str = "per-source", **changes: Any) -> PackSettings:
    return replace(base, method=method, upsampling=UpsamplingSettings(**({"threshold": THRESHOLD} | changes)))


def packed(chosen: PackSettings, folder: Path) -> tuple[Packing, PackedRows]:
    done = pack(chosen, folder)
    return done, PackedRows.open(folder, max(chosen.lengths))


def texts_of(rows: PackedRows) -> list[str]:
    """The documents in rows laid end to end, split at BOS; those not cut end in EOS, which becomes a newline."""
    tokens = np.concatenate([rows.row(index)[0] for index in range(len(rows))])
    starts = np.flatnonzero(tokens == BOS_ID)
    assert starts[0] == 0
    parts = np.split(tokens, starts[1:])
    return [decode_bytes(np.where(part == EOS_ID, 10, part)) for part in parts]


def assert_whole(texts: list[str], records: list[dict[str, Any]], cut: int = 1) -> None:
    """Each of ``texts`` is a document of ``records``, at most ``cut`` of them only its beginning, none twice."""
    originals = {record["text"] + "\n" for record in records}
    partial = [text for text in texts if text not in originals]
    assert len(partial) <= cut
    assert all(any(original.startswith(text) for original in originals) for text in partial)
    assert len(texts) == len(set(texts))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a packing; its report has times in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "report.json"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
