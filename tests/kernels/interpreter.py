"""Makes Triton's interpreter honest: bfloat16 that rounds, and memory accesses that are checked.

The interpreter keeps bfloat16 as 16-bit integers, on which its arithmetic computes nonsense without a word, and reads
and writes wherever a pointer points.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def _widened(handle: TensorHandle) -> np.ndarray:
    if handle.dtype.scalar == tl.bfloat16:
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest even, as the hardware does; the interpreter would cut."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16).reshape(np.shape(values))


@contextlib.contextmanager
def honest_bfloat16() -> Iterator[None]:
    """bfloat16 matrix products and conversions as on the hardware; other arithmetic on it is an error."""
    plain_dot, plain_convert = InterpreterBuilder.create_dot, interpreter._convert_float

    def dot(self: Any, a: TensorHandle, b: TensorHandle, d: TensorHandle, *rest: Any) -> TensorHandle:
        if a.dtype.scalar != tl.bfloat16:
            return plain_dot(self, a, b, d, *rest)
        product = np.matmul(_widened(a), _widened(b)).astype(d.data.dtype)
        return TensorHandle(product + d.data, d.dtype.scalar)

    def convert(values: np.ndarray, source: Any, target: Any, rounding: Any) -> np.ndarray:
        if (source, target) == (tl.float32, tl.bfloat16):
            return _to_bfloat16(values)
        if (source, target) == (tl.bfloat16, tl.float32):
            return (np.ascontiguousarray(values).astype(np.uint32) << 16).view(np.float32).reshape(np.shape(values))
        return plain_convert(values, source, target, rounding)

    def refusing(method: Any) -> Any:
        def operate(self: Any, *operands: Any) -> Any:
            if any(isinstance(x, TensorHandle) and x.dtype.scalar == tl.bfloat16 for x in operands):
                raise NotImplementedError("bfloat16 arithmetic in the interpreter: convert to float32 first")
            return method(self, *operands)

        return operate

    with (
        mock.patch.object(InterpreterBuilder, "create_dot", dot),
        mock.patch.object(interpreter, "_convert_float", convert),
        mock.patch.object(InterpreterBuilder, "binary_op", refusing(InterpreterBuilder.binary_op)),
        mock.patch.object(InterpreterBuilder, "unary_op", refusing(InterpreterBuilder.unary_op)),
    ):
        yield


@contextlib.contextmanager
def checked_memory(*tensors: torch.Tensor) -> Iterator[None]:
    """Loads and stores must lie within memory that belongs to some tensor, and no two programs store to one address.

    Args:
        tensors: the inputs. Tensors that are made within count as well.

    Raises:
        IndexError: out of bounds.
        RuntimeError: two programs of one launch store to the same address.
    """
    ranges = [_range(tensor) for tensor in tensors]
    writers: dict[int, tuple[int, ...]] = {}
    plain_load, plain_store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    plain_call = interpreter.GridExecutor.__call__
    makers = {name: getattr(torch, name) for name in ("empty_like", "empty_strided")}
    plain_new_empty = torch.Tensor.new_empty

    def noted(maker: Any) -> Any:
        def make(*args: Any, **options: Any) -> torch.Tensor:
            tensor = maker(*args, **options)
            if tensor.dtype.is_floating_point:
                tensor.fill_(torch.nan)  # what is never written, or read before, must not look right
            ranges.append(_range(tensor))
            return tensor

        return make

    def addresses(pointer: TensorHandle, mask: TensorHandle | None, what: str) -> np.ndarray:
        found = pointer.data
        if mask is not None:
            shape = np.broadcast_shapes(found.shape, mask.data.shape)
            found = np.broadcast_to(found, shape)[np.broadcast_to(mask.data, shape).astype(bool)]
        found = found.ravel().astype(np.int64)
        size = pointer.get_element_ty().primitive_bitwidth // 8
        bounds = np.array(sorted(ranges), dtype=np.int64)
        index = np.maximum(np.searchsorted(bounds[:, 0], found, side="right") - 1, 0)
        outside = (found < bounds[index, 0]) | (found + size > bounds[index, 1])
        if outside.any():
            raise IndexError(f"{what}: {int(outside.sum())} of {found.size} addresses are out of bounds")
        return found

    def load(self: Any, pointer: TensorHandle, mask: TensorHandle | None, *rest: Any) -> Any:
        addresses(pointer, mask, "load")
        return plain_load(self, pointer, mask, *rest)

    def store(self: Any, pointer: TensorHandle, value: Any, mask: TensorHandle | None, *rest: Any) -> Any:
        program = tuple(self.grid_idx)
        for address in addresses(pointer, mask, "store").tolist():
            if writers.setdefault(address, program) != program:
                raise RuntimeError(f"programs {writers[address]} and {program} store to one address")
        return plain_store(self, pointer, value, mask, *rest)

    def call(self: Any, *args: Any, **options: Any) -> Any:
        writers.clear()
        return plain_call(self, *args, **options)

    with (
        mock.patch.object(InterpreterBuilder, "create_masked_load", load),
        mock.patch.object(InterpreterBuilder, "create_masked_store", store),
        mock.patch.object(interpreter.GridExecutor, "__call__", call),
        mock.patch.object(torch, "empty_like", noted(makers["empty_like"])),
        mock.patch.object(torch, "empty_strided", noted(makers["empty_strided"])),
        mock.patch.object(torch.Tensor, "new_empty", noted(plain_new_empty)),
    ):
        yield


def _range(tensor: torch.Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
