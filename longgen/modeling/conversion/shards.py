"""The shards of a conversion: checked first, then copied as they are or rewritten piece by piece."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from longgen.errors import ArtifactError
from longgen.modeling.conversion.pickle_file import load_pickled, tensor_pieces
from longgen.modeling.conversion.safetensors_file import (
    NAMES,
    NewTensor,
    TensorInfo,
    read_header,
    read_pieces,
    write_safetensors,
)
from longgen.modeling.conversion.source import Source
from longgen.modeling.conversion.weights import (
    IGNORED,
    PICKLE,
    SAFETENSORS,
    ModelTensors,
    Weights,
    check_places,
)

# --dtype -> what the model's floating-point weights become
CAST_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Shards:
    """What becomes of the weights of one checkpoint.

    Attributes:
        source: where they come from.
        weights: the files they are in.
        needed: the tensors of the model.
        cast: dtype of the model's floating-point weights; None keeps every tensor's own.
    """

    source: Source
    weights: Weights
    needed: ModelTensors
    cast: torch.dtype | None

    @cached_property
    def tensors(self) -> dict[str, dict[str, TensorInfo] | None]:
        """The tensors of every shard, without reading them; None for a pickle that has yet to be downloaded."""
        return {file: self._tensors(file) for file in self.weights.files}

    def _tensors(self, file: str) -> dict[str, TensorInfo] | None:
        if not self.weights.pickled:
            return self.source.tensors(file)
        if self.source.passing:
            return None
        state = load_pickled(self.source.file(file, Path()))
        return {name: TensorInfo(value.dtype, tuple(value.shape), 0, value.nbytes) for name, value in state.items()}

    def check(self) -> None:
        """Check that the checkpoint is complete, and what the model needs.

        Raises:
            ArtifactError: a damaged shard; a tensor that is missing, unexpected, of another shape, or misplaced.
        """
        where = self.source.where
        known = {file: tensors for file, tensors in self.tensors.items() if tensors is not None}
        if len(known) == len(self.tensors):
            check_places(where, self.weights, known)
            self.needed.check(where, {name: info.shape for tensors in known.values() for name, info in tensors.items()})
        elif self.weights.placed:  # the names at least, before gigabytes are downloaded
            self.needed.check(where, {name: self.needed.shapes.get(name, ()) for name in self.weights.placed})

    def space(self) -> int:
        """Bytes on the disk that the new shards take, and while they are made a downloaded one."""
        sizes = self.source.sizes()
        written, passing = 0, 0
        for file, tensors in self.tensors.items():
            if tensors is None:  # at worst 16-bit values become 32-bit ones
                written += sizes[file] * (2 if self.cast == torch.float32 else 1)
            else:
                written += sum(math.prod(t.shape) * self._target(n, t.dtype).itemsize for n, t in tensors.items())
            if self.source.passing and not self._is_copied(tensors):
                passing = max(passing, sizes[file])
        return written + passing

    def place(self, file: str, folder: Path, scratch: Path) -> None:
        """Bring shard ``file`` into ``folder``.

        Raises:
            ArtifactError: damaged, or it holds a value that `cast` cannot hold.
        """
        path = self.source.file(file, scratch)
        if self.weights.pickled:
            write_safetensors(folder / safetensors_name(file), self._unpickled(path))
        else:
            header = read_header(path)
            if self._is_copied(header.tensors):
                (shutil.move if self.source.passing else shutil.copyfile)(path, folder / file)
                return
            write_safetensors(
                folder / file,
                [
                    self._new(name, info.dtype, info.shape, partial(read_pieces, path, header, name))
                    for name, info in header.tensors.items()
                ],
            )
        if self.source.passing:
            path.unlink()

    def _unpickled(self, path: Path) -> Iterator[NewTensor]:
        """Names that share memory are written once each; but copies of a tied tensor transformers makes by itself."""
        for name, value in load_pickled(path).items():
            if name in self.needed.tied or IGNORED.search(name):
                continue
            if value.dtype not in NAMES:
                raise ArtifactError(f"{path}: {name} has dtype {value.dtype}: allowed are {', '.join(map(str, NAMES))}")
            yield self._new(name, value.dtype, tuple(value.shape), partial(tensor_pieces, value))

    def _new(
        self, name: str, dtype: torch.dtype, shape: tuple[int, ...], pieces: Callable[[], Iterable[torch.Tensor]]
    ) -> NewTensor:
        target = self._target(name, dtype)
        return NewTensor(name, target, shape, partial(_cast, name, target, pieces))

    def _target(self, name: str, dtype: torch.dtype) -> torch.dtype:
        is_weight = dtype.is_floating_point and dtype.itemsize > 1 and not IGNORED.search(name)
        return self.cast if self.cast is not None and is_weight else dtype

    def _is_copied(self, tensors: Mapping[str, TensorInfo] | None) -> bool:
        if self.weights.pickled or tensors is None:
            return False
        return all(self._target(name, info.dtype) == info.dtype for name, info in tensors.items())


def safetensors_name(pickled: str) -> str:
    """``pytorch_model-00001-of-00002.bin`` as ``model-00001-of-00002.safetensors``."""
    stem, suffix = Path(PICKLE).stem, Path(PICKLE).suffix
    return pickled.replace(stem, Path(SAFETENSORS).stem, 1).removesuffix(suffix) + Path(SAFETENSORS).suffix


def _cast(name: str, target: torch.dtype, pieces: Callable[[], Iterable[torch.Tensor]]) -> Iterator[torch.Tensor]:
    for piece in pieces():
        result = piece.to(target)
        if piece.dtype != target and bool((result.isinf() & piece.isfinite()).any()):
            raise ArtifactError(f"{name} has a value beyond what {target} can hold: allowed are float32 and bfloat16")
        yield result
