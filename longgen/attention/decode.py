"""Decoding: attention of one new token per row over a KV cache, whatever the cache keeps."""

from __future__ import annotations

import torch

from longgen.attention.autocast import in_one_dtype
from longgen.attention.sdpa import scaled_dot_product
from longgen.attention.triton_decode import triton_decode
from longgen.attention.triton_launch import why_unsupported

DECODE_BACKENDS = ("auto", "triton", "sdpa")


def decode_backend(kernel: str) -> str:
    """The backend to decode with where ``kernel`` is set for all queries: the same if it can decode, else PyTorch's."""
    return kernel if kernel in DECODE_BACKENDS else "sdpa"


def choose_decode_backend(query: torch.Tensor, key: torch.Tensor) -> str:
    """What "auto" stands for, for such tensors: our kernels on a GPU that they serve, unless gradients are wanted."""
    served = query.device.type == "cuda" and not torch.is_grad_enabled() and why_unsupported(query, key) is None
    return "triton" if served else "sdpa"


@in_one_dtype
def decode_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None = None,
    lengths: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Attention of one new token per row to all keys that count. Fixed shapes, and nothing waits for the device.

    Args:
        query: [batch, query heads, 1, head_dim].
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        scale: softmax scale; head_dim ** -0.5 by default.
        lengths: [batch] integers on the device: how many of the first keys count; None for all.
        mask: [batch, kv_len] booleans on the device: which of them count; None for all. At least one must.
        backend: ``auto`` (`choose_decode_backend`), ``triton`` or ``sdpa``.

    Returns:
        [batch, query heads, 1, head_dim], dtype of ``query``, or autocast's (`longgen.attention.autocast`).

    Raises:
        ValueError: dtypes that differ, unknown backend, or one that cannot serve this input.
    """
    if backend not in DECODE_BACKENDS:
        raise ValueError(f"backend is {backend!r}: allowed to decode are {', '.join(DECODE_BACKENDS)}")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if backend == "auto":
        backend = choose_decode_backend(query, key)
    if backend == "triton":
        return triton_decode(query, key, value, scale, lengths, mask)
    if lengths is not None:
        within = torch.arange(key.shape[2], device=key.device) < lengths[:, None]
        mask = within if mask is None else mask & within
    return scaled_dot_product(query, key, value, scale, None if mask is None else mask[:, None, None])
