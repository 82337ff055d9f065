"""Layers whose tokens stand in slots: for rows of different lengths, and for shapes that never change.

Where a token goes follows from its position alone (`SparsePattern.slot`), so that a decode step writes one slot per row
in place and moves nothing. All state is on the device and a decode step never waits for it: with ``max_length`` given,
torch.compile and CUDA graphs can capture it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from longgen.cache_layout import chunked
from longgen.hybrid import HeadPattern
from longgen.modeling.attention_parts import AttentionPart
from longgen.modeling.cache.exact import with_room
from longgen.modeling.cache.layer import PatternCacheLayer
from longgen.modeling.padding import TokenIndex, token_count

# Position of a slot that no token has taken: after every query, hence seen by none.
NEVER = 2**62


class SlotCacheLayer(PatternCacheLayer):
    """`HeadPattern.slot_count` slots for every row.

    Args:
        head_pattern: of these heads.
        max_length: most tokens of a row. None grows the buffers as needed, and is not for compiled decoding.

    Attributes:
        keys: [batch, KV heads, slots, head_dim], and ``values`` like it.
        positions: [batch, slots] int64, position of the token in each slot, or `NEVER`.
        seen: [batch] int64, real tokens given.
    """

    TENSORS = ("keys", "values", "positions", "seen")

    def __init__(self, head_pattern: HeadPattern, max_length: int | None = None) -> None:
        super().__init__(head_pattern)
        self.max_length = max_length
        self.is_compileable = max_length is not None
        self.positions: Any = None
        self.seen: Any = None
        self._longest = 0  # the largest in ``seen``, as far as the host knows: a compiled graph's steps do not count

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate. Called with the first states, or ahead of them with states of length 0."""
        super().lazy_initialization(key_states, value_states)
        batch = key_states.shape[0]
        self.seen = torch.zeros(batch, dtype=torch.int64, device=self.device)
        self.positions = torch.full((batch, 0), NEVER, device=self.device)
        if self.max_length is None:
            return
        self._reserve(self.max_length, key_states, value_states)
        self.cumulative_length = torch.zeros((), dtype=torch.int64, device=self.device)
        if not torch.compiler.is_compiling():
            for tensor in (*self.tensors().values(), self.cumulative_length):
                torch._dynamo.mark_static_address(tensor)  # or CUDA graphs would copy them at every step

    def _reserve(self, length: int, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        capacity = self.head_pattern.slot_count(chunked(length) if self.head_pattern.pattern is None else length)
        present = self.positions.shape[1]
        if capacity > present:
            self.keys = with_room(self.keys, key_states, present, capacity)
            self.values = with_room(self.values, value_states, present, capacity)
            more = self.positions.new_full((len(self.positions), capacity - present), NEVER)
            self.positions = torch.cat([self.positions, more], dim=1)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[list[AttentionPart], None]:
        """Write the new tokens into their slots. Only a single token of every row avoids waiting for the device.

        Raises:
            ValueError: more tokens than ``max_length``; unchecked in a compiled graph.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        q_len = key_states.shape[-2]
        if self.max_length is None:
            self._reserve(self.cumulative_length + q_len, key_states, value_states)
        if q_len == 1 and rows is None:
            if self.max_length is not None and not torch.compiler.is_compiling():
                # only where it may be too much is it worth waiting for the device
                self._longest = self._longest + 1 if self._longest < self.max_length else int(self.seen.max()) + 1
                self._check_room()
            parts = [self._append_one(key_states, value_states)]
        else:
            parts = self._append(key_states, value_states, rows)
        self.cumulative_length += q_len  # in place where it is a tensor
        return parts, None

    def _check_room(self) -> None:
        if self.max_length is not None and self._longest > self.max_length:
            raise ValueError(f"{self._longest} tokens: allowed are {self.max_length}, the max_length of this cache")

    def _append_one(self, key_states: torch.Tensor, value_states: torch.Tensor) -> AttentionPart:
        position = self.seen[:, None]
        slot = self.head_pattern.slot(position)
        batch, heads = key_states.shape[:2]
        # not scatter_, which on a CPU copies the whole buffer for one token
        index = (
            torch.arange(batch, device=slot.device)[:, None],
            torch.arange(heads, device=slot.device)[None],
            slot.expand(-1, heads),
        )
        self.keys.index_put_(index, key_states[:, :, 0])
        self.values.index_put_(index, value_states[:, :, 0])
        self.positions.scatter_(1, slot, position)
        if self.head_pattern.pattern is None:  # slots are in order: with a length no empty one is read
            self.seen += 1
            return AttentionPart(self.keys, self.values, self.head_pattern, lengths=self.seen)
        mask = self.head_pattern.allowed(position, self.positions)
        self.seen += 1
        return AttentionPart(self.keys, self.values, self.head_pattern, mask=mask)

    @torch.compiler.disable
    def _append(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None
    ) -> list[AttentionPart]:
        batch, _, q_len, _ = key_states.shape
        seen = self.seen.tolist()
        if rows is None and len(set(seen)) == 1:
            spans: list[tuple[slice, TokenIndex, int, int]] = [(slice(None), slice(None), seen[0], seen[0] + q_len)]
        else:
            rows = rows or [slice(0, q_len)] * batch
            ends = [start + token_count(new) for start, new in zip(seen, rows, strict=True)]
            indices = [slice(row, row + 1) for row in range(batch)]
            spans = [span for span in zip(indices, rows, seen, ends, strict=True) if span[3] > span[2]]
        self._longest = max((end for *_, end in spans), default=self._longest)
        self._check_room()
        return [
            self._append_span(key_states[row, :, new], value_states[row, :, new], row, new, start, end)
            for row, new, start, end in spans
        ]

    def _append_span(
        self, keys: torch.Tensor, values: torch.Tensor, row: slice, new: TokenIndex, start: int, end: int
    ) -> AttentionPart:
        """Tokens ``start`` to ``end`` of rows ``row``, which stand at ``new`` among the queries."""
        positions = self.head_pattern.kept_positions(end)
        if self.head_pattern.pattern is None:  # slots are in order, and nothing is overwritten: the past is not copied
            self.store(row, positions[start:], keys, values, start)
            keys, values = self.keys[row, :, :end], self.values[row, :, :end]
        else:
            past = self._slots(self.head_pattern.kept_positions(start))
            seen_keys = torch.cat([self.keys[row, :, past], keys], dim=2)
            seen_values = torch.cat([self.values[row, :, past], values], dim=2)
            self.store(row, positions[positions >= start], keys, values, start)
            keys, values = seen_keys, seen_values
        self.seen[row] = end
        return AttentionPart(keys, values, self.head_pattern, start, rows=row, queries=new)

    def store(self, row: slice, positions: np.ndarray, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        """Put the tokens at ``positions`` into their slots; ``keys`` and ``values`` begin with position ``start``."""
        slots = self._slots(positions)
        index = torch.from_numpy(positions - start).to(self.device)
        self.keys[row, :, slots] = keys[:, :, index]
        self.values[row, :, slots] = values[:, :, index]
        self.positions[row, slots] = torch.tensor(positions, device=self.device)

    def restore(self, tensors: dict[str, torch.Tensor], length: int) -> None:
        """As any layer's; buffers of a fixed size are filled where they are."""
        if self.max_length is None:
            super().restore(tensors, length)
            return
        self.lazy_initialization(tensors["keys"], tensors["values"])
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.cumulative_length.fill_(length)
        self._longest = length

    def take_over(self, layer: PatternCacheLayer) -> None:
        """Hold what an exact layer (`longgen.modeling.cache.exact`) with the same pattern holds."""
        layer.evict()
        assert layer.keys is not None and layer.values is not None
        length = layer.cumulative_length
        self.lazy_initialization(layer.keys, layer.values)
        self._reserve(length, layer.keys, layer.values)
        slots = self.mark_seen(length)
        self.keys[:, :, slots] = layer.keys[:, :, : len(slots)]
        self.values[:, :, slots] = layer.values[:, :, : len(slots)]

    def mark_seen(self, length: int) -> torch.Tensor:
        """Count ``length`` tokens of every row as given, whatever keys and values their slots hold.

        Returns:
            the slots of those that are kept, in the order of their positions (int64).
        """
        positions = self.head_pattern.kept_positions(length)
        slots = self._slots(positions)
        self.positions[:, slots] = torch.tensor(positions, device=self.device)
        self.seen.fill_(length)
        self._longest = length
        if self.max_length is None:
            self.cumulative_length = length
        else:
            self.cumulative_length.fill_(length)
        return slots

    def _slots(self, positions: np.ndarray) -> torch.Tensor:
        return torch.tensor(self.head_pattern.slot(positions), device=self.device)

    def why_not_crop(self, tokens: int) -> str | None:
        """Never: a slot is written over by a later token."""
        if self.max_length is None:
            return "its rows are padded: allowed are rows without padding"
        return f"max_length is {self.max_length}: allowed is None, the default"

    def get_max_length(self) -> int:
        """``max_length``, or -1 for none."""
        return -1 if self.max_length is None else self.max_length

    def reset(self) -> None:
        """Forget everything; buffers of a fixed size stay where they are."""
        if self.max_length is None or not self.is_initialized:
            super().reset()
            return
        self.positions.fill_(NEVER)
        self.seen.zero_()
        self.cumulative_length.zero_()
        self._longest = 0
