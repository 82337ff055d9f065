"""Checkpoints of torch.save (pytorch_model*.bin): read only where the user allowed it, and only tensors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import torch

from longgen.errors import ArtifactError
from longgen.modeling.conversion.safetensors_file import PIECE_BYTES


def load_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickled state dict, mapped into memory rather than read where the file's format allows it.

    ``weights_only`` unpickles tensors and plain containers; anything else in the file is an error, not executed.

    Raises:
        ArtifactError: damaged, or not a state dict of tensors.
    """
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:
            # written before PyTorch 1.6: not a zip file, and cannot be mapped. A damaged file fails again.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtifactError(f"{path} cannot be read as tensors ({reason}): get the file anew") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ArtifactError(f"{path} is no state dict: allowed is a mapping of names to tensors")
    return state


def tensor_pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The values of ``tensor`` in order, as 1-D tensors of at most `PIECE_BYTES`."""
    flat = tensor.detach().reshape(-1)  # a view where that is possible
    for piece in flat.split(PIECE_BYTES // flat.element_size()):
        yield piece.contiguous()
