"""The shards of a conversion: checked first, then copied as they are or rewritten piece by piece."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from longgen.errors import ArtifactError
from longgen.hardware import ModelDtype
from longgen.modeling.conversion.safetensors_file import (
    NewTensor,
    TensorInfo,
    read_header,
    read_pieces,
    write_safetensors,
)
from longgen.modeling.conversion.source import Source
from longgen.modeling.conversion.weights import IGNORED, WEIGHT_DTYPES, ModelTensors, WeightFiles, check_places

# --dtype -> what the model's floating-point weights become
CAST_DTYPES = {name: getattr(torch, name) for name in get_args(ModelDtype)}


@dataclass(frozen=True)
class Shards:
    """What becomes of the weights of one checkpoint.

    Attributes:
        source: where they come from.
        weights: the files they are in.
        tensors: those of every file, by its header.
        expected: the tensors of the model.
        cast: dtype of the model's weights; None keeps every tensor's own.
        check_finite: whether a weight that is not finite is refused.
    """

    source: Source
    weights: WeightFiles
    tensors: Mapping[str, Mapping[str, TensorInfo]]
    expected: ModelTensors
    cast: torch.dtype | None
    check_finite: bool = True

    def check(self) -> None:
        """Check that the checkpoint is complete, and what the model needs.

        Raises:
            ArtifactError: a damaged shard; a tensor that is missing, unexpected, misplaced, of another shape or dtype.
        """
        where = self.source.where
        check_places(where, self.weights, self.tensors)
        self.expected.check(where, {name: info for tensors in self.tensors.values() for name, info in tensors.items()})

    def space(self) -> int:
        """Bytes on the disk that the new shards take, and while they are made a downloaded one."""
        sizes = self.source.sizes()
        shards, download = 0, 0
        for file, tensors in self.tensors.items():
            shards += sum(math.prod(t.shape) * self._target(n, t.dtype).itemsize for n, t in tensors.items())
            if self.source.temporary and not self._is_copied(tensors):
                download = max(download, sizes[file])
        return shards + download

    def place(self, file: str, folder: Path, scratch: Path) -> None:
        """Bring shard ``file`` into ``folder``.

        Raises:
            ArtifactError: damaged, or it holds a value that is not finite, or that `cast` cannot hold.
        """
        path = self.source.file(file, scratch)
        header = read_header(path)
        if self.check_finite:
            for name in header.tensors.keys() & self.expected.shapes.keys():
                _check_finite(self.source.where, name, read_pieces(path, header, name))
        if self._is_copied(header.tensors):
            (shutil.move if self.source.temporary else shutil.copyfile)(path, folder / file)
            return
        write_safetensors(
            folder / file,
            [
                self._new(name, info.dtype, info.shape, partial(read_pieces, path, header, name))
                for name, info in header.tensors.items()
            ],
        )
        if self.source.temporary:
            path.unlink()

    def _new(
        self, name: str, dtype: torch.dtype, shape: tuple[int, ...], pieces: Callable[[], Iterable[torch.Tensor]]
    ) -> NewTensor:
        target = self._target(name, dtype)
        return NewTensor(name, target, shape, partial(_cast, name, target, pieces))

    def _target(self, name: str, dtype: torch.dtype) -> torch.dtype:
        is_weight = dtype in WEIGHT_DTYPES and not IGNORED.search(name)
        return self.cast if self.cast is not None and is_weight else dtype

    def _is_copied(self, tensors: Mapping[str, TensorInfo]) -> bool:
        return all(self._target(name, info.dtype) == info.dtype for name, info in tensors.items())


def _check_finite(where: str, name: str, pieces: Iterable[torch.Tensor]) -> None:
    for piece in pieces:
        if not bool(piece.isfinite().all()):
            value = piece[~piece.isfinite()][0].item()
            raise ArtifactError(
                f"{where}: {name} has a value {value}: allowed are finite ones; get the file anew, or "
                "--skip-finite-check takes the weights as they are"
            )


def _cast(name: str, target: torch.dtype, pieces: Callable[[], Iterable[torch.Tensor]]) -> Iterator[torch.Tensor]:
    for piece in pieces():
        result = piece.to(target)
        if piece.dtype != target and bool((result.isinf() & piece.isfinite()).any()):
            raise ArtifactError(
                f"{name} has a value beyond what {target} can hold: allowed are no --dtype, which keeps {piece.dtype}, "
                "or one with a wider range"
            )
        yield result
