"""The corpus of a run: sources split by document into training and held-out text, tokenised, on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longgen.data.sources import DataSettings, SourceDocument, load_documents
from longgen.data.synthetic.tokenizer import encode_bytes, save_byte_tokenizer
from longgen.data.synthetic.vocabulary import EOS_ID
from longgen.errors import ArtifactError
from longgen.files import atomic_directory, read_mapping, write_json
from longgen.records.experiment import CorpusRecord
from longgen.records.schema import row_of

SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class Corpus:
    """Token ids (uint16) of both splits, documents in order, each ended by EOS; and the fingerprint of it all."""

    train: np.ndarray
    heldout: np.ndarray
    fingerprint: str


def split_of(document: SourceDocument, heldout_fraction: float) -> str:
    """``train`` or ``heldout``, from a hash of the document's name: stable when documents come and go."""
    digest = hashlib.sha256(f"{document.source}/{document.name}".encode()).digest()
    return "heldout" if int.from_bytes(digest[:8], "big") < heldout_fraction * 2**64 else "train"


def build_corpus(settings: DataSettings, folder: Path) -> list[CorpusRecord]:
    """Write the corpus and its tokenizer to ``folder``.

    Returns:
        one record per source and split: documents, tokens and SHA-256 of the text.

    Raises:
        ArtifactError: a split is empty.
    """
    tokens: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    records = []
    for source in settings.sources:
        source_tokens: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        for document in load_documents(source):
            split = split_of(document, settings.heldout_fraction)
            source_tokens[split].append(np.append(encode_bytes(document.text), np.uint16(EOS_ID)))
        name = source.kind if source.path is None else f"{source.kind}:{source.path}"
        for split, parts in source_tokens.items():
            content = np.concatenate([*parts, np.empty(0, np.uint16)])
            sha256 = hashlib.sha256(content.tobytes()).hexdigest()
            count, size = len(parts), len(content)
            records.append(CorpusRecord(source=name, split=split, documents=count, tokens=size, sha256=sha256))
            tokens[split] += parts
    for split, parts in tokens.items():
        if not parts:
            raise ArtifactError(f"the {split} split is empty: give more documents or another heldout_fraction")
    fingerprint = hashlib.sha256("".join(record.sha256 for record in records).encode()).hexdigest()[:16]
    with atomic_directory(folder) as temporary:
        for split, parts in tokens.items():
            np.save(temporary / f"{split}.npy", np.concatenate(parts))
        save_byte_tokenizer(temporary / "tokenizer")
        write_json(temporary / "manifest.json", {"fingerprint": fingerprint, "records": list(map(row_of, records))})
    return records


def load_corpus(folder: Path) -> Corpus:
    """Read what `build_corpus` wrote; the tokens stay on disk (memory-mapped).

    Raises:
        ArtifactError: missing or damaged.
    """
    manifest = read_mapping(folder / "manifest.json", "longgen prepare CONFIG --stage corpus", fingerprint=str)
    try:
        train, heldout = (np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False) for split in SPLITS)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(
            f"{folder} is damaged ({error}): `longgen prepare CONFIG --stage corpus` remakes it"
        ) from None
    return Corpus(train, heldout, manifest["fingerprint"])
