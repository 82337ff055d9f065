"""Full causal attention for the layers that keep it: which kernel computes it is chosen here, or named by the caller.

On a GPU that is the flash-attn package where it is installed, else PyTorch's own flash attention; on a CPU PyTorch's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention, can_use_flash_attention
from torch.nn.attention import SDPBackend, sdpa_kernel

from longgen.attention.autocast import in_one_dtype
from longgen.attention.call import AttentionCall, PackedDocuments
from longgen.attention.decode import decode_attention
from longgen.attention.sdpa import causal_attention, repeat_kv_heads
from longgen.attention.triton_attention import triton_attention
from longgen.attention.triton_launch import why_unsupported
from longgen.pattern import SparsePattern

# A window that no sequence outgrows: full attention, as the kernels for sparse patterns see it.
EVERYTHING = SparsePattern(block_size=64, sink_blocks=0, local_blocks=2**20)


class FullKernel(NamedTuple):
    """One way to compute full causal attention.

    Attributes:
        attend: of query, key, value, scale and packed documents.
        why_unsupported: of query, key and packed documents: why ``attend`` cannot serve them; None if it can.
    """

    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, PackedDocuments | None], torch.Tensor]
    why_unsupported: Callable[[torch.Tensor, torch.Tensor, PackedDocuments | None], str | None]


def _describe(query: torch.Tensor) -> str:
    return f"{query.device.type}, {query.dtype}, head_dim {query.shape[-1]}"


# ---------------------------------------------------------------- the flash-attn package
def _flash_attn(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, packed: PackedDocuments | None
) -> torch.Tensor:
    from flash_attn import flash_attn_func, flash_attn_varlen_func

    by_token = [states.transpose(1, 2) for states in (query, key, value)]
    if packed is None:
        return flash_attn_func(*by_token, softmax_scale=scale, causal=True).transpose(1, 2)
    bounds = (packed.cu_seqlens, packed.cu_seqlens, packed.max_seqlen, packed.max_seqlen)
    rows = [states[0] for states in by_token]
    return flash_attn_varlen_func(*rows, *bounds, softmax_scale=scale, causal=True)[None].transpose(1, 2)


def _why_not_flash_attn(query: torch.Tensor, key: torch.Tensor, packed: PackedDocuments | None) -> str | None:
    if importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed: allowed with `pip install longgen[flash]`, on a GPU"
    if query.device.type != "cuda" or query.dtype not in (torch.float16, torch.bfloat16) or query.shape[-1] > 256:
        return f"the input is {_describe(query)}: allowed is cuda, float16 or bfloat16, head_dim at most 256"
    return None


# ---------------------------------------------------------------- PyTorch's attention, one of its kernels
def _params(query: torch.Tensor, key: torch.Tensor) -> SDPAParams:
    # PyTorch checks its own causal flag, which is for equal lengths only; `causal_lower_right` goes without it
    return SDPAParams(query, key, key, None, 0.0, query.shape[2] == key.shape[2], query.shape[1] != key.shape[1])


def _sdpa_flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, packed: PackedDocuments | None
) -> torch.Tensor:
    from torch.nn.attention.bias import causal_lower_right  # takes a second to import

    grouped = query.shape[1] != key.shape[1]  # this kernel knows grouped heads: nothing is repeated
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        if query.shape[2] == key.shape[2]:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
        # chunked prefill: this bias selects the kernel's own lower-right causal mode, without a dense mask
        bias = causal_lower_right(query.shape[2], key.shape[2])
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale, enable_gqa=grouped)


def _why_not_sdpa_flash(query: torch.Tensor, key: torch.Tensor, packed: PackedDocuments | None) -> str | None:
    if packed is not None:
        return "documents are packed: allowed is one per row"
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        served = query.device.type == "cuda" and can_use_flash_attention(_params(query, key))
    return None if served else f"the input is {_describe(query)}: PyTorch's flash attention does not take it"


def _sdpa_cudnn(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, packed: PackedDocuments | None
) -> torch.Tensor:
    key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)


def _why_not_sdpa_cudnn(query: torch.Tensor, key: torch.Tensor, packed: PackedDocuments | None) -> str | None:
    if packed is not None:
        return "documents are packed: allowed is one per row"
    if query.shape[2] != key.shape[2]:
        return f"q_len is {query.shape[2]}, kv_len {key.shape[2]}: allowed are equal ones"
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        served = query.device.type == "cuda" and can_use_cudnn_attention(_params(query, repeat_kv_heads(query, key)))
    return None if served else f"the input is {_describe(query)}: cuDNN's attention does not take it"


# ---------------------------------------------------------------- our kernels, and what is always there
def _triton(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, packed: PackedDocuments | None
) -> torch.Tensor:
    offset = key.shape[2] - query.shape[2]
    call = AttentionCall(EVERYTHING, scale, offset, (0,) * key.shape[1], packed=packed)
    return triton_attention(query, key, value, call)[0]


def _why_not_triton(query: torch.Tensor, key: torch.Tensor, packed: PackedDocuments | None) -> str | None:
    return why_unsupported(query, key)


def _sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, packed: PackedDocuments | None
) -> torch.Tensor:
    if packed is None:
        return causal_attention(query, key, value, scale)
    parts = [causal_attention(query[:, :, part], key[:, :, part], value[:, :, part], scale) for part in packed.slices()]
    return torch.cat(parts, dim=2)


# In the order in which "auto" asks them.
FULL_KERNELS: dict[str, FullKernel] = {
    "flash-attn": FullKernel(_flash_attn, _why_not_flash_attn),
    "sdpa-flash": FullKernel(_sdpa_flash, _why_not_sdpa_flash),
    "triton": FullKernel(_triton, _why_not_triton),
    "sdpa": FullKernel(_sdpa, lambda query, key, packed: None),
    "sdpa-cudnn": FullKernel(_sdpa_cudnn, _why_not_sdpa_cudnn),
}


def choose_full_kernel(query: torch.Tensor, key: torch.Tensor, packed: PackedDocuments | None = None) -> str:
    """The name in `FULL_KERNELS` that "auto" stands for, for such tensors."""
    if query.device.type != "cuda":
        return "sdpa"
    return next(name for name, kernel in FULL_KERNELS.items() if kernel.why_unsupported(query, key, packed) is None)


@in_one_dtype
def full_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None = None,
    packed: PackedDocuments | None = None,
    kernel: str = "auto",
) -> torch.Tensor:
    """Causal attention of the last ``q_len`` tokens to all ``kv_len`` tokens.

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim] with kv_len >= q_len; the queries are the last q_len positions.
        value: like ``key``.
        scale: softmax scale; head_dim ** -0.5 by default.
        packed: documents that stand in the one row; q_len = kv_len.
        kernel: a name in `FULL_KERNELS`, or ``auto``: `choose_full_kernel`, and `decode_attention` for a single query.

    Returns:
        [batch, query heads, q_len, head_dim], dtype of ``query``, or autocast's (`longgen.attention.autocast`).

    Raises:
        ValueError: dtypes that differ, unknown kernel, or one that cannot serve this input.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "auto":
        if query.shape[2] == 1 and packed is None:
            return decode_attention(query, key, value, scale)
        kernel = choose_full_kernel(query, key, packed)
    elif kernel not in FULL_KERNELS:
        raise ValueError(f"full attention kernel is {kernel!r}: allowed are auto, {', '.join(FULL_KERNELS)}")
    elif problem := FULL_KERNELS[kernel].why_unsupported(query, key, packed):
        raise ValueError(f"full attention by {kernel}: {problem}")
    return FULL_KERNELS[kernel].attend(query, key, value, scale, packed)
