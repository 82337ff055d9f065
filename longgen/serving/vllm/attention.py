"""Attention of sparse layers: an engine's own kernels, over the blocks that a query sees and no others.

The queries of one block of the pattern see the same blocks, and of their own block what is before them. So they are
causal attention over a shorter sequence, and are given to the kernels as a request of their own, as vLLM does for
chunked local attention. Keys are rotated before they are stored, so that leaving blocks out moves nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention import Attention
from vllm.v1.attention.backend import (
    AttentionBackend,
    AttentionCGSupport,
    CommonAttentionMetadata,
    MultipleOf,
    subclass_attention_backend,
)
from vllm.v1.kv_cache_interface import KVCacheSpec
from vllm.v1.worker.block_table import get_block_table_width

from longgen.errors import ConfigError, require
from longgen.pattern import SparsePattern
from longgen.serving.blocks import check_block_size, cut_queries
from longgen.serving.vllm.cache import SparsePatternSpec

# Their kernels take requests of any query length over a block table. The first is proven with whole models, the others
# for a layer, without a GPU.
BACKENDS = ("CPU_ATTN", "TRITON_ATTN", "FLASH_ATTN")

MakeTable = Callable[[torch.Tensor], torch.Tensor]


class SparseAttention(Attention):
    """The attention of a sparse layer, in the place of the one that vLLM's model made.

    Raises:
        ConfigError: an attention backend that is not in `BACKENDS`.
    """

    def __init__(self, made: Attention, pattern: SparsePattern, vllm_config: VllmConfig) -> None:
        backend = made.attn_backend
        require(backend.get_name() in BACKENDS, "--attention-backend", backend.get_name(), f"one of {BACKENDS}")
        del vllm_config.compilation_config.static_forward_context[made.layer_name]  # a name is given once
        super().__init__(
            made.num_heads,
            made.head_size,
            made.impl.scale,
            num_kv_heads=made.num_kv_heads,
            cache_config=vllm_config.cache_config,
            quant_config=made.quant_config,
            prefix=made.layer_name,
            attn_backend=sparse_backend(backend, pattern),
        )
        self.pattern = pattern

    def get_kv_cache_spec(self, vllm_config: VllmConfig) -> KVCacheSpec:
        """What this layer keeps.

        Raises:
            ConfigError: the engine's block size does not divide the pattern's, or the backend has no kernels for it.
        """
        full = super().get_kv_cache_spec(vllm_config)
        check_block_size(self.pattern, full.block_size)
        check_kernels(self.attn_backend, self.pattern, full.block_size)
        return SparsePatternSpec(
            block_size=full.block_size,
            num_kv_heads=full.num_kv_heads,
            head_size=full.head_size,
            head_size_v=full.head_size_v,
            dtype=full.dtype,
            pattern=self.pattern,
            max_in_flight_tokens=vllm_config.max_in_flight_tokens,
        )


def check_kernels(backend: type[AttentionBackend], pattern: SparsePattern, block_size: int) -> None:
    """Check that an attention backend has kernels for the engine's block size.

    Raises:
        ConfigError: it has none; with the sizes that are left, or what is to be done where none is.
    """
    if backend.supports_block_size(block_size):
        return
    own, name = pattern.block_size, backend.get_name()
    sizes = [size for size in range(1, own + 1) if own % size == 0 and backend.supports_block_size(size)]
    if not sizes:
        known = backend.get_supported_kernel_block_sizes()
        theirs = ", ".join(f"multiples of {size.base}" if isinstance(size, MultipleOf) else str(size) for size in known)
        raise ConfigError(
            f"config.longgen.pattern.block_size is {own}: no divisor of it is among the block sizes of {name}, "
            f"{theirs}; allowed is a hybrid with another block size, or another --attention-backend"
        )
    raise ConfigError(
        f"the engine's block size is {block_size}: allowed is a divisor of the pattern's, {own}, for which {name} has "
        f"kernels, {', '.join(map(str, sizes))}"
    )


@functools.lru_cache
def sparse_backend(engine_backend: type[AttentionBackend], pattern: SparsePattern) -> type[AttentionBackend]:
    """``engine_backend``, whose kernels are handed what ``pattern`` lets a query see."""
    engine_builder: Any = engine_backend.get_builder_cls()

    class SparsePatternMetadataBuilder(engine_builder):
        @classmethod
        def get_cudagraph_support(cls, vllm_config: VllmConfig, kv_cache_spec: KVCacheSpec) -> AttentionCGSupport:
            return AttentionCGSupport.NEVER  # how many pieces a batch has changes from step to step

        def build(
            self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, *args: Any, **kwargs: Any
        ) -> Any:
            cut, make_table = cut_metadata(pattern, self.kv_cache_spec.block_size, common_attn_metadata)
            metadata = super().build(0, cut, *args, **kwargs)
            metadata.make_table = make_table
            return metadata

        def update_block_table(self, metadata: Any, blk_table: torch.Tensor, slot_mapping: torch.Tensor) -> Any:
            updated = super().update_block_table(metadata, metadata.make_table(blk_table), slot_mapping)
            updated.make_table = metadata.make_table
            return updated

    return subclass_attention_backend(
        name_prefix="SparsePattern",
        attention_backend_cls=engine_backend,
        builder_cls=SparsePatternMetadataBuilder,
    )


def cut_metadata(
    pattern: SparsePattern, block_size: int, batch: CommonAttentionMetadata
) -> tuple[CommonAttentionMetadata, MakeTable]:
    """A batch that has a request for every piece of `cut_queries`, and what makes its block table of the batch's."""
    check_block_size(pattern, block_size)  # of the kernels, which may have cut the manager's blocks
    # exact without speculative decoding, and already on this side
    known = batch.seq_lens_cpu_upper_bound
    lengths = batch.seq_lens.cpu() if known is None else known
    pieces = cut_queries(pattern, block_size, batch.query_start_loc_cpu.numpy(), lengths.numpy())
    device = batch.query_start_loc.device
    rows = torch.from_numpy(pieces.request).to(device)[:, None]
    most = pieces.blocks.shape[1]
    # kernels read the table a tile of keys at a time, beyond the last block of a request: as wide as vLLM makes its own
    padding = get_block_table_width(most, block_size) - most
    columns = torch.nn.functional.pad(torch.from_numpy(pieces.blocks), (0, padding)).to(device)

    def make_table(block_table: torch.Tensor) -> torch.Tensor:
        return block_table[rows, columns]

    starts, lengths = torch.from_numpy(pieces.query_starts), torch.from_numpy(pieces.lengths)
    cut = CommonAttentionMetadata(
        query_start_loc=starts.to(device),
        query_start_loc_cpu=starts,
        seq_lens=lengths.to(device),
        seq_lens_cpu_upper_bound=lengths,
        num_reqs=len(lengths),
        num_actual_tokens=int(starts[-1]),  # the batch's may count tokens that fill up a CUDA graph
        max_query_len=int(starts.diff().max()),
        max_seq_len=int(lengths.max()),
        block_table_tensor=make_table(batch.block_table_tensor),
        slot_mapping=batch.slot_mapping,
        causal=True,
    )
    return cut, make_table
