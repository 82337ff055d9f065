"""Counts the memory of live tensors, without a byte of it: for models that are too large to run here."""

import weakref

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class MemoryTracker(TorchDispatchMode):
    """While active, sums the storages of all tensors made, real or fake; of a sharded one those of this process.

    Attributes:
        storages: that are alive.
        peak: most bytes at a time since `watch`.
        largest: bytes of the largest single storage made since `watch`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.storages: weakref.WeakSet = weakref.WeakSet()
        self._sum = 0
        self.watch()

    def watch(self) -> None:
        """Start the peak and the largest storage anew."""
        self.peak, self.largest = self.live, 0

    @property
    def live(self) -> int:
        """Bytes now."""
        return self._sum

    def call(self, function, args, kwargs):
        """What an operation gives."""
        return function(*args, **kwargs)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = self.call(function, args, kwargs or {})
        for tensor in tree_iter(output):
            if isinstance(tensor, torch.Tensor):
                self._add((tensor._local_tensor if isinstance(tensor, DTensor) else tensor).untyped_storage())
        self.peak = max(self.peak, self.live)
        return output

    def _add(self, storage) -> None:
        if storage not in self.storages:
            size = storage.nbytes()
            self.storages.add(storage)
            self._sum += size
            self.largest = max(self.largest, size)
            weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._sum -= size
