"""Counts the memory of live tensors, without a byte of it: for models that are too large to run here."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class MemoryTracker(TorchDispatchMode):
    """While active, sums the storages of all tensors made, real or fake.

    Attributes:
        live: bytes now.
        peak: most bytes at a time.
        largest: bytes of the largest single storage made since `watch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.largest = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def watch(self) -> None:
        """Start the peak and the largest storage anew."""
        self.peak, self.largest = self.live, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in tree_iter(output):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._known:
                storage = tensor.untyped_storage()
                size = storage.nbytes()
                self._known.add(storage)
                self.live += size
                self.largest = max(self.largest, size)
                weakref.finalize(storage, self._free, size)
        self.peak = max(self.peak, self.live)
        return output

    def _free(self, size: int) -> None:
        self.live -= size
