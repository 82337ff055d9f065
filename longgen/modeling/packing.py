"""Packed documents: several in one row of tokens, told apart as by Hugging Face's padding-free collator."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from longgen.attention import PackedDocuments

# What `DataCollatorWithFlattening(return_flash_attn_kwargs=True)` passes.
FLASH_ARGUMENTS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


def packed_documents(
    inputs: torch.Tensor, position_ids: torch.Tensor | None, arguments: dict[str, Any]
) -> PackedDocuments | None:
    """The documents of a call without a cache. Waits for the device.

    Args:
        inputs: [batch, tokens] or [batch, tokens, hidden size], the call's input.
        position_ids: [batch or 1, tokens]; a document begins wherever they do not rise by one, and with every row.
        arguments: of the call; those for flash attention are taken out, and win over ``position_ids``.

    Returns:
        the documents of all rows, as if these stood one after another; None where no row holds more than one.

    Raises:
        ValueError: bounds that do not fit, or bounds of several rows.
    """
    bounds, *_ = [arguments.pop(name, None) for name in FLASH_ARGUMENTS]
    batch, tokens = inputs.shape[:2]
    if bounds is not None:
        if batch != 1:
            raise ValueError(f"cu_seq_lens_q is given and the batch has {batch} rows: allowed is 1")
        ends = torch.as_tensor(bounds).tolist()
        if len(ends) < 2 or ends[0] != 0 or ends[-1] != tokens or any(start >= end for start, end in pairwise(ends)):
            raise ValueError(f"cu_seq_lens_q is {ends}: allowed are rising numbers from 0 to {tokens}, the tokens")
    elif position_ids is None or tokens == 1:
        return None
    else:
        begins = torch.nn.functional.pad(position_ids.diff(dim=-1) != 1, (1, 0)).expand(batch, -1)
        if not bool(begins.any()):
            return None
        begins = begins.clone()
        begins[:, 0] = True
        ends = [*begins.flatten().nonzero().flatten().tolist(), batch * tokens]
    return PackedDocuments.of_lengths([end - start for start, end in pairwise(ends)], inputs.device)


def positions_in_documents(packed: PackedDocuments, tokens: int) -> torch.Tensor:
    """Position ids [1, tokens] that begin anew with every document of a row."""
    index = torch.arange(tokens, device=packed.cu_seqlens.device)
    document = torch.searchsorted(packed.cu_seqlens, index, right=True) - 1
    return (index - packed.cu_seqlens[document])[None]
