"""Safetensors files as streams: headers are read without the data, and files written without holding a tensor.

The format (https://github.com/huggingface/safetensors#format): 8 bytes, the length of the header; the header, a JSON
mapping of name to dtype, shape and offsets into the data; the data, without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from longgen.errors import ArtifactError

# What is held at a time (our choice): large enough that reading and writing go at the disk's speed.
PIECE_BYTES = 1 << 22

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorInfo(NamedTuple):
    """A tensor as a header describes it; ``start`` and ``end`` are bytes within the data."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A safetensors header: its tensors by name, and the byte of the file where the data begin."""

    tensors: dict[str, TensorInfo]
    data_start: int


def read_header(path: Path) -> Header:
    """Read and check the header of ``path``.

    Raises:
        ArtifactError: not a safetensors file, an unknown dtype, or a file that ends elsewhere than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ArtifactError(f"{path} is truncated or not a safetensors file: it ends within its header")
        text = file.read(length)
    try:
        values = json.loads(text)
        values.pop("__metadata__", None)
        tensors = {
            name: tensor_info(str(path), name, entry["dtype"], entry["shape"], entry["data_offsets"])
            for name, entry in values.items()
        }
    except ArtifactError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} has no readable safetensors header ({error!r}): get the file anew") from None
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        expected = math.prod(info.shape) * info.dtype.itemsize
        if info.start != end or info.end - info.start != expected:
            raise ArtifactError(
                f"{path}: {name} is at bytes {info.start}..{info.end}: allowed is {end}..{end + expected}"
            )
        end = info.end
    if size != 8 + length + end:
        raise ArtifactError(f"{path} has {size} bytes: its header says {8 + length + end}; get the file anew")
    return Header(tensors, 8 + length)


def tensor_info(where: str, name: str, dtype: str, shape: Sequence[int], offsets: Sequence[int]) -> TensorInfo:
    """An entry of the header of file ``where``. Raises ArtifactError for a dtype that we cannot copy."""
    if dtype not in DTYPES:
        raise ArtifactError(f"{where}: {name} has dtype {dtype!r}: allowed are {', '.join(DTYPES)}")
    start, end = offsets
    return TensorInfo(DTYPES[dtype], tuple(shape), start, end)


def read_pieces(path: Path, header: Header, name: str) -> Iterator[torch.Tensor]:
    """The values of tensor ``name`` in order, as 1-D tensors of at most `PIECE_BYTES`."""
    info = header.tensors[name]
    with path.open("rb") as file:
        file.seek(header.data_start + info.start)
        for begin in range(info.start, info.end, PIECE_BYTES):
            buffer = bytearray(min(PIECE_BYTES, info.end - begin))
            if file.readinto(buffer) != len(buffer):
                raise ArtifactError(f"{path} ends within {name}: it was changed while it was read")
            yield torch.frombuffer(buffer, dtype=info.dtype)


class NewTensor(NamedTuple):
    """A tensor to write: ``pieces`` yields its values in order, as 1-D tensors of ``dtype``."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[torch.Tensor]]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(path: Path, tensors: Iterable[NewTensor]) -> None:
    """Write a safetensors file; one piece is held at a time."""
    # wide dtypes first, so that all are aligned, as the safetensors library orders them
    ordered = sorted(tensors, key=lambda tensor: (-tensor.dtype.itemsize, tensor.name))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        offsets = [end, end + tensor.nbytes]
        entries[tensor.name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        end = offsets[1]
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in ordered:
            for piece in tensor.pieces():
                file.write(piece.view(torch.uint8).numpy().data)
