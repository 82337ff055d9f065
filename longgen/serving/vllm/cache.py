"""The KV cache of sparse layers: how much of it a request can need, and which of its blocks are freed when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from vllm.config import VllmConfig
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_utils import KVCacheBlock, resolve_block_hashes
from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
from vllm.v1.kv_cache_interface import AttentionSpec, KVCacheSpec
from vllm.v1.kv_cache_spec_registry import KVCacheSpecRegistry, register_kv_cache_spec

from longgen.pattern import SparsePattern
from longgen.serving.blocks import blocks_in_sight, most_blocks_held


class SparsePatternManager(SingleTypeKVCacheManager):
    """Puts the null block in the place of every block that no later query sees, wherever it stands."""

    kv_cache_spec: SparsePatternSpec

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._freed_up_to: dict[str, int] = {}  # request -> query block for which was freed last

    def get_num_blocks_to_allocate(
        self,
        request_id: str,
        num_tokens: int,
        new_computed_blocks: Sequence[KVCacheBlock],
        *args: Any,
        apply_admission_cap: bool = False,
        **kwargs: Any,
    ) -> int:
        """As vLLM's; to admit a request as a whole, what it holds at most, since the rest is freed on the way."""
        if not apply_admission_cap:
            return super().get_num_blocks_to_allocate(request_id, num_tokens, new_computed_blocks, *args, **kwargs)
        spec = self.kv_cache_spec
        most = most_blocks_held(spec.pattern, self.block_size, num_tokens, spec.max_in_flight_tokens)
        blocks = [*self.req_to_blocks.get(request_id, ()), *new_computed_blocks]
        missing = max(0, most - sum(not block.is_null for block in blocks))
        return missing + self._get_num_evictable_blocks(new_computed_blocks)

    def remove_skipped_blocks(
        self, request_id: str, processed_computed_tokens: int, num_prompt_tokens: int | None = None
    ) -> None:
        """Free what the next query, at position ``processed_computed_tokens``, and all after it do not see."""
        pattern = self.kv_cache_spec.pattern
        query_block = processed_computed_tokens // pattern.block_size
        if request_id not in self.req_to_blocks or self._freed_up_to.get(request_id) == query_block:
            return
        self._freed_up_to[request_id] = query_block
        blocks = self.req_to_blocks[request_id]
        out_of_sight = np.flatnonzero(~blocks_in_sight(pattern, self.block_size, processed_computed_tokens))
        free_blocks = []
        for place in out_of_sight[out_of_sight < len(blocks)][::-1]:  # as vLLM does: the last are evicted first
            if not blocks[place].is_null:
                free_blocks.append(blocks[place])
                blocks[place] = self._null_block
        self.block_pool.free_blocks(free_blocks)

    def pop_blocks_for_free(self, request_id: str) -> list[KVCacheBlock]:
        """As vLLM's."""
        self._freed_up_to.pop(request_id, None)
        return super().pop_blocks_for_free(request_id)

    @classmethod
    def find_longest_cache_hit(
        cls,
        block_hashes: Any,
        max_length: int,
        kv_cache_group_ids: list[int],
        block_pool: BlockPool,
        kv_cache_spec: KVCacheSpec,
        drop_eagle_block: bool,
        alignment_tokens: int,
        dcp_world_size: int = 1,
        pcp_world_size: int = 1,
    ) -> tuple[tuple[list[KVCacheBlock], ...], int]:
        """The longest prefix whose blocks are cached, as far as the query after it sees them; null blocks elsewhere."""
        assert isinstance(kv_cache_spec, SparsePatternSpec) and not drop_eagle_block
        size = kv_cache_spec.block_size
        hashes = resolve_block_hashes(block_hashes, block_pool.hash_block_size, size)
        most = max_length // size
        cache_hits = [block_pool.get_cached_block(hashes[place], kv_cache_group_ids) for place in range(most)]
        is_cached = np.array([hit is not None for hit in cache_hits], bool)
        for count in range(most, 0, -1):
            if count * size % alignment_tokens:
                continue
            in_sight = blocks_in_sight(kv_cache_spec.pattern, size, count * size)[:count]
            if is_cached[:count][in_sight].all():
                null = block_pool.null_block
                rows = [[null] * count for _ in kv_cache_group_ids]
                for place in np.flatnonzero(in_sight):
                    for row, block in zip(rows, cache_hits[place], strict=True):
                        row[place] = block
                return tuple(rows), count * size
        return tuple([] for _ in kv_cache_group_ids), 0


# vLLM registers its own specs when it is first asked for one, and no more once anything is registered
KVCacheSpecRegistry.check_kv_cache_spec_registry({})


@register_kv_cache_spec(manager_class=SparsePatternManager)
@dataclass(frozen=True, kw_only=True)
class SparsePatternSpec(AttentionSpec):
    """The KV cache of a sparse layer, in pages as those of a full one.

    Attributes:
        pattern: of the layer.
        max_in_flight_tokens: those that are scheduled, and not computed yet, at most.
    """

    pattern: SparsePattern
    max_in_flight_tokens: int

    def max_memory_usage_bytes(self, vllm_config: VllmConfig) -> int:
        """What the pattern keeps of a request of ``max_model_len`` tokens, and what is computed at once."""
        length = vllm_config.model_config.max_model_len
        blocks = most_blocks_held(self.pattern, self.block_size, length, self.max_in_flight_tokens)
        return int(blocks * self.page_size_bytes)
