"""What our attention does in mixed precision: the same as PyTorch's scaled_dot_product_attention.

Under `torch.autocast` queries, keys and values of any dtype but float64 are cast to autocast's dtype, and so comes the
output. There they often differ: RoPE makes float32 of queries and keys and leaves bfloat16 values alone. Elsewhere they
must be of one dtype. Where they are already, nothing is copied.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import torch

Rest = ParamSpec("Rest")
AnyAttention = Callable[Concatenate[torch.Tensor, torch.Tensor, torch.Tensor, Rest], torch.Tensor]


def under_autocast(device: torch.device) -> bool:
    """Whether autocast is on for operations on ``device``; never on a device that has none, such as meta."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def autocasted(*states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """``states``, all on one device, in autocast's dtype where it is on and casts them; else as they are."""
    device = states[0].device
    if not under_autocast(device):
        return states
    dtype = torch.get_autocast_dtype(device.type)
    return tuple(tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in states)


def outside_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context in which autocast leaves operations on ``device`` alone."""
    return torch.autocast(device.type, enabled=False) if under_autocast(device) else contextlib.nullcontext()


def in_one_dtype(attend: AnyAttention[Rest]) -> AnyAttention[Rest]:
    """``attend`` for queries, keys and values as scaled_dot_product_attention takes them: see this module.

    What it decorates gets all three in one dtype and runs outside of autocast.
    """

    @functools.wraps(attend)
    def attend_in_one_dtype(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> torch.Tensor:
        if under_autocast(query.device):
            query, key, value = autocasted(query, key, value)
            with outside_autocast(query.device):
                return attend_in_one_dtype(query, key, value, *args, **kwargs)
        check_one_dtype(query=query, key=key, value=value)
        return attend(query, key, value, *args, **kwargs)

    return attend_in_one_dtype


def check_one_dtype(**states: torch.Tensor) -> None:
    """Raise ValueError unless all are of one dtype."""
    dtypes = [tensor.dtype for tensor in states.values()]
    if dtypes.count(dtypes[0]) != len(dtypes):
        names = ", ".join(f"{name} {dtype}" for name, dtype in zip(states, dtypes, strict=True))
        raise ValueError(f"dtypes differ: {names}; allowed is one for all, or under torch.autocast any but float64")
