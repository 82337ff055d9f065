"""Reading packed rows for training: random access, memory-mapped, nothing unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longgen.data.packing.shards import shard_path
from longgen.errors import ArtifactError, ConfigError
from longgen.files import read_mapping

MANIFEST = "manifest.json"


def length_folder(folder: Path, length: int) -> Path:
    """Where the rows of one length are below the folder of a packing."""
    return folder / "rows" / str(length)


def rows_per_shard(length: int, shard_tokens: int) -> int:
    """How many rows a shard has, the last of a length excepted."""
    return max(1, shard_tokens // length)


@dataclass(frozen=True)
class RowShard:
    """Rows in one folder, on disk.

    Attributes:
        tokens: [rows, length] uint16 or uint32.
        cu_seqlens: int32, those of all rows one after another.
        offsets: [rows + 1] int64, where those of each row begin.
        answers: [answers, 2] int32, where the answers of all rows begin and end, each in its row.
        answer_offsets: [rows + 1] int64, where those of each row begin.
    """

    tokens: np.ndarray
    cu_seqlens: np.ndarray
    offsets: np.ndarray
    answers: np.ndarray
    answer_offsets: np.ndarray

    @classmethod
    def open(cls, folder: Path, rows: int, length: int) -> RowShard:
        """Map a shard.

        Raises:
            ArtifactError: missing, cut short, or not ``rows`` rows of ``length`` tokens.
        """
        try:
            names = ["tokens", "cu_seqlens", "offsets", "answers", "answer_offsets"]
            if not any((folder / f"{name}.npy").exists() for name in names[3:]):
                names = names[:3]  # a packing without look-ups
            parts = {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False) for name in names}
            parts.setdefault("answers", np.empty((0, 2), np.int32))
            parts.setdefault("answer_offsets", np.zeros(rows + 1, np.int64))
            shard = cls(**parts)
            whole = shard.tokens.shape == (rows, length) and shard.offsets.shape == (rows + 1,)
            whole = whole and shard.answer_offsets.shape == (rows + 1,)
            whole = whole and shard.answers.shape == (shard.answer_offsets[-1], 2)
            if not whole or shard.offsets[-1] != len(shard.cu_seqlens):
                raise ValueError(f"{shard.tokens.shape} instead of {(rows, length)}")
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{folder} is damaged ({error}): delete it, `longgen pack` remakes it") from None
        return shard


@dataclass(frozen=True)
class PackedRows:
    """Rows of one length, as `longgen pack` wrote them.

    Attributes:
        length: tokens per row.
        fingerprint: of all that determines the rows.
        vocabulary_size: all token ids are less.
        step: rows per shard, the last excepted.
        shards: the rows, in order.
    """

    length: int
    fingerprint: str
    vocabulary_size: int
    step: int
    shards: tuple[RowShard, ...]

    @classmethod
    def open(cls, folder: Path | str, length: int | None = None) -> PackedRows:
        """Map the rows of a finished packing; ``length`` chooses where it has several (method ``buckets``).

        Raises:
            ArtifactError: missing, unfinished or damaged.
            ConfigError: there are no rows of that length, or several lengths and none is given.
        """
        folder = Path(folder)
        fields = {"rows": dict, "shard_tokens": int, "fingerprint": str, "vocabulary_size": int}
        manifest = read_mapping(folder / MANIFEST, "longgen pack CONFIG --output FOLDER", **fields)
        counts = {int(each): rows for each, rows in manifest["rows"].items()}
        if length is None and len(counts) == 1:
            (length,) = counts
        if length is None or length not in counts:
            raise ConfigError(f"length is {length}: allowed with {folder} is one of {', '.join(map(str, counts))}")
        step = rows_per_shard(length, manifest["shard_tokens"])
        shards = tuple(
            RowShard.open(shard_path(length_folder(folder, length), number), min(step, counts[length] - first), length)
            for number, first in enumerate(range(0, counts[length], step))
        )
        return cls(length, manifest["fingerprint"], manifest["vocabulary_size"], step, shards)

    def __len__(self) -> int:
        return sum(len(shard.tokens) for shard in self.shards)

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [length] int64 of a row, and its ``cu_seqlens``: int32 offsets of its documents, from 0 to length.

        Raises:
            IndexError: ``index`` is not within 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row is {index}: allowed is 0..{len(self) - 1}")
        shard, place = self.shards[index // self.step], index % self.step
        boundaries = shard.cu_seqlens[shard.offsets[place] : shard.offsets[place + 1]]
        return shard.tokens[place].astype(np.int64), np.array(boundaries)

    def answers(self, index: int) -> np.ndarray:
        """[answers, 2] int32: where the answers of a row begin and end in it; a row of mere text has none."""
        shard, place = self.shards[index // self.step], index % self.step
        return np.array(shard.answers[shard.answer_offsets[place] : shard.answer_offsets[place + 1]])

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [size, length] int64 of rows, and the ``cu_seqlens`` (int32) of these rows laid end to end."""
        rows = [self.row(index) for index in indices]
        ends = [cu_seqlens[1:] + number * self.length for number, (_, cu_seqlens) in enumerate(rows)]
        return np.stack([tokens for tokens, _ in rows]), np.concatenate([np.zeros(1, np.int32), *ends], dtype=np.int32)
