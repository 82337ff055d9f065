"""A GPU that is not there: code for it runs as it stands, on tensors without contents, and is watched.

PyTorch's meta device stands in for cuda: what asks for cuda gets it, and its tensors say that they are on cuda. Memory
is counted and runs out. Triton kernels and PyTorch's fused attention check their arguments and compute nothing.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.attention.bias as attention_bias
import torch.utils.checkpoint
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map
from triton.runtime.jit import KernelInterface

from longgen.attention import full, triton_launch
from longgen.gpus import GIB
from tests.modeling.memory_tracker import MemoryTracker

T = torch.Tensor
NAME, FREE = "NVIDIA H100 80GB HBM3", int(78.5 * GIB)
_device = T.device.__get__
# What reads a number back, and what it is told: a step whose numbers are finite, and conditions that hold.
ANSWERS = {
    T.item: lambda tensor: 1.0,
    T.__float__: lambda tensor: 1.0,
    T.__bool__: lambda tensor: True,
    T.cpu: lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu"),
    T.tolist: lambda tensor: torch.ones(tensor.shape, device="cpu").tolist(),
    T.nonzero: lambda tensor: torch.arange(tensor.numel(), device="meta")[:, None],
}
FACTORIES_FROM_HOST = (torch.tensor, torch.as_tensor, torch.from_numpy)


class AbsentGpu(TorchFunctionMode):
    """While it is active, cuda is there.

    Attributes:
        waits: names of the functions that made the host wait: numbers read back, and copies from memory that is not
            pinned.
        launches: names of the Triton kernels launched.
        capturing: whether a CUDA graph is being captured: then waiting fails.
        compiling: whether kernels may be compiled: while capturing and while timing they may not.
    """

    def __init__(self, free: int) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.launches: list[str] = []
        self.capturing, self.compiling = False, True
        self._compiled: set[Any] = set()
        self._free, self.memory = free, _LimitedMemory(free)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function == _device:
            return torch.device("cuda", 0) if _on_gpu(args[0]) else _device(args[0])
        if function == T.is_cuda.__get__:
            return _on_gpu(args[0])
        if function == T.is_meta.__get__:
            return False
        if function is torch.device:
            return function(*args, **kwargs)
        if function is T.pin_memory:
            return args[0]
        if function in ANSWERS and _on_gpu(args[0]):
            self._wait(function.__name__)
            return ANSWERS[function](args[0])
        given = [tensor for tensor in tree_iter((args, kwargs)) if isinstance(tensor, T)]
        # single numbers are passed by value, as to a real GPU
        from_host = function in FACTORIES_FROM_HOST or any(tensor.ndim and not _on_gpu(tensor) for tensor in given)
        args, kwargs = tree_map(_stand_in, (args, kwargs))
        if kwargs.get("device") is not None:
            kwargs.pop("generator", None)
        output = function(*args, **kwargs)
        if from_host and isinstance(output, T) and _on_gpu(output):
            assert function in (*FACTORIES_FROM_HOST, T.to), f"{function.__name__} of tensors on the CPU and on the GPU"
            if not kwargs.get("non_blocking"):
                self._wait(function.__name__)
        assert not self.capturing or not isinstance(output, T) or _on_gpu(output), f"{function.__name__} on the host"
        return output

    def _wait(self, name: str) -> None:
        assert not self.capturing, f"{name} waits while a graph is captured"
        self.waits.append(name)

    @contextlib.contextmanager
    def capture(self, graph: Any, capture_error_mode: str = "global") -> Iterator[None]:
        """In place of `torch.cuda.graph`."""
        self.capturing = True
        with self.without_compiling():
            yield
        self.capturing = False

    @contextlib.contextmanager
    def without_compiling(self) -> Iterator[None]:
        """Within, a kernel that was not launched alike before fails."""
        before, self.compiling = self.compiling, False
        yield
        self.compiling = before

    def launch(self, kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
        """In place of a launch by Triton: what it compiles depends on constants, dtypes and kinds of numbers."""
        name = kernel.fn.__name__
        tensors = [argument for argument in args if isinstance(argument, T)]
        assert all(_on_gpu(tensor) for tensor in tensors), f"{name}: tensors on the CPU"
        assert all(number > 0 for number in grid) and all(number < 2**16 for number in grid[1:]), f"{name}: {grid}"
        key = (name, *map(_kind, args), *sorted(constants.items()))
        assert self.compiling or key in self._compiled, f"{name} is compiled"
        self._compiled.add(key)
        self.launches.append(name)


class _LimitedMemory(MemoryTracker):
    def __init__(self, free: int) -> None:
        super().__init__()
        self.free = free

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = super().__torch_dispatch__(function, types, args, kwargs)
        if self.live > self.free:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return output


def _on_gpu(tensor: T) -> bool:
    return _device(tensor).type != "cpu"  # cuda where the mode is active, else meta


def _stand_in(value: Any) -> Any:
    """``meta`` where a device or its name is cuda."""
    named = isinstance(value, str) and value.split(":")[0] == "cuda"
    return "meta" if named or (isinstance(value, torch.device) and value.type == "cuda") else value


def _kind(argument: Any) -> Any:
    """What Triton compiles an argument for: numbers that are 1, multiples of 16, or wide, are told apart."""
    if isinstance(argument, T):
        return argument.dtype
    return (argument == 1, argument % 16 == 0, abs(argument) >= 2**31) if isinstance(argument, int) else type(argument)


def _fused_attention(query, key, value, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    """In place of PyTorch's: its shape, dtype and gradients."""
    assert query.dtype == key.dtype == value.dtype
    assert enable_gqa or query.shape[1] == key.shape[1]
    if isinstance(attn_mask, T):
        torch.broadcast_shapes(attn_mask.shape, (*query.shape[:3], key.shape[2]))
    return query + key.mean() * value.mean()


class _Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        return super().__new__(cls)


@contextlib.contextmanager
def absent_gpu(free: int = FREE) -> Iterator[AbsentGpu]:
    """Within, there is a GPU with so many bytes of free memory."""
    gpu, nothing, engine = AbsentGpu(free), lambda *args: 0, torch.autograd._engine_run_backward

    def backward(*args, **kwargs):  # PyTorch calls it from where modes are suspended
        with gpu:
            return engine(*args, **kwargs)

    properties = SimpleNamespace(name=NAME, total_memory=free)
    event = SimpleNamespace(record=nothing, elapsed_time=lambda end: 1.0)
    cuda = {
        **dict.fromkeys(("synchronize", "empty_cache", "set_device"), nothing),
        "is_available": lambda: True,
        "is_current_stream_capturing": lambda: gpu.capturing,
        "reset_peak_memory_stats": lambda device: gpu.memory.watch(),
        "max_memory_allocated": lambda device: gpu.memory.peak,
        "mem_get_info": lambda device: (free - gpu.memory.live, free),
        "get_device_name": lambda device: NAME,
        "get_device_capability": lambda device: (9, 0),
        "get_device_properties": lambda device: properties,
        "CUDAGraph": lambda: SimpleNamespace(replay=nothing),
        "graph": gpu.capture,
        "Event": lambda enable_timing: event,
    }
    checks = {"default": lambda tensor: None}  # of recomputed tensors, which do not all know where they are
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.multiple(torch.cuda, **cuda))
        enter(mock.patch.object(gc, "collect", nothing))  # takes seconds in all, and no memory is to depend on it
        enter(mock.patch.multiple(full, can_use_flash_attention=bool, can_use_cudnn_attention=bool))
        enter(mock.patch.object(full, "SDPAParams", lambda *args: args))
        enter(mock.patch.object(attention_bias, "causal_lower_right", lambda queries, keys: (queries, keys)))
        enter(mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", _fused_attention))
        enter(mock.patch.object(torch, "Generator", _Generator))
        enter(mock.patch.object(torch.autograd, "_engine_run_backward", backward))
        enter(mock.patch.dict(torch.utils.checkpoint._allowed_determinism_checks_to_fns, checks))
        enter(
            mock.patch.object(
                KernelInterface, "__getitem__", lambda kernel, grid: functools.partial(gpu.launch, kernel, grid)
            )
        )
        enter(mock.patch.object(triton_launch, "_capability", lambda device: 90))
        enter(gpu.memory)
        yield enter(gpu)
