"""A full layer's cache in 8 or 4 bits, as KIVI lays it out: keys per channel, values per token.

Our own few lines of torch, because what transformers offers (quanto, HQQ) quantises the whole cache anew at every
flush, and needs another library. Attention still computes on dequantised keys: this saves memory, not time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from longgen.cache_layout import QUANTIZATION_BITS, QUANTIZATION_GROUP, chunked
from longgen.errors import ConfigError
from longgen.hybrid import HeadPattern
from longgen.modeling.attention_parts import AttentionPart
from longgen.modeling.cache.exact import with_room
from longgen.modeling.cache.layer import PatternCacheLayer
from longgen.modeling.padding import TokenIndex


def quantize(states: torch.Tensor, bits: int, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Asymmetric linear quantisation with one scale and zero point along ``dim``.

    Args:
        states: floats, [..., head_dim].
        bits: 8 or 4.
        dim: the dimension that shares a scale.

    Returns:
        codes (uint8, [..., head_dim * bits / 8]: two 4-bit codes to a byte), scale and zero point (dtype of ``states``,
        length 1 along ``dim``). The error is at most half a scale, and what rounding in the dtype of ``states`` adds.
    """
    low, high = states.amin(dim, keepdim=True), states.amax(dim, keepdim=True)
    levels = 2**bits - 1
    # a constant group has no range: any scale does, since all of its codes are 0
    scale = torch.where(high > low, (high - low) / levels, torch.ones_like(low))
    codes = ((states - low) / scale).round().clamp(0, levels).to(torch.uint8)
    if bits == 4:
        codes = codes[..., ::2] | (codes[..., 1::2] << 4)
    return codes, scale, low


def dequantize(codes: torch.Tensor, bits: int, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """The inverse of `quantize`, in the dtype of ``scale``."""
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)
    return codes.to(scale.dtype) * scale + zero


class QuantizedFullCacheLayer(PatternCacheLayer):
    """All tokens: whole groups of QUANTIZATION_GROUP as codes, the last ones (``keys``, ``values``) as they are.

    A token is attended to in full precision by the call that brings it, and as quantised once its group is complete.

    Args:
        bits: 8 or 4.

    Raises:
        ConfigError: another number of bits.
    """

    CODES = tuple(f"{what}_{part}" for what in ("key", "value") for part in ("codes", "scale", "zero"))
    TENSORS = ("keys", "values", *CODES)

    def __init__(self, bits: int) -> None:
        super().__init__(HeadPattern())
        if bits not in QUANTIZATION_BITS:
            raise ConfigError(f"full_bits is {bits!r}: allowed are {', '.join(map(str, QUANTIZATION_BITS))} or None")
        self.bits = bits
        for name in self.CODES:
            setattr(self, name, None)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Start with nothing. Called with the first states."""
        if self.bits == 4 and key_states.shape[-1] % 2:
            raise ConfigError(f"head_dim is {key_states.shape[-1]}: allowed is an even number with 4-bit quantisation")
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[list[AttentionPart], None]:
        """Append; the part holds the dequantised past, and the new tokens as they are."""
        assert rows is None
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.cumulative_length
        grouped = start - start % QUANTIZATION_GROUP
        exact = [torch.cat([old, new], 2) for old, new in ((self.keys, key_states), (self.values, value_states))]
        past = self._dequantized(grouped)
        keys, values = (torch.cat([old, new], 2) if grouped else new for old, new in zip(past, exact, strict=True))
        self.cumulative_length = start + key_states.shape[-2]
        complete = exact[0].shape[2] // QUANTIZATION_GROUP * QUANTIZATION_GROUP
        if complete:
            self._store(exact[0][:, :, :complete], exact[1][:, :, :complete], grouped)
        # copies: views would keep the whole call's states alive
        self.keys, self.values = exact[0][:, :, complete:].clone(), exact[1][:, :, complete:].clone()
        return [AttentionPart(keys, values, self.head_pattern, start)], None

    def why_not_crop(self, tokens: int) -> str | None:
        """Never: what a group of codes was made from is gone."""
        return f"full_bits is {self.bits}: allowed is None, the default"

    def _store(self, keys: torch.Tensor, values: torch.Tensor, start: int) -> None:
        groups = keys.unflatten(2, (-1, QUANTIZATION_GROUP))
        key_codes, key_scale, key_zero = quantize(groups, self.bits, dim=3)
        parts = (
            key_codes.flatten(2, 3),
            key_scale.squeeze(3),
            key_zero.squeeze(3),
            *quantize(values, self.bits, dim=-1),
        )
        end = start + keys.shape[2]
        for name, part in zip(self.CODES, parts, strict=True):
            step = keys.shape[2] // part.shape[2]  # tokens to an entry
            buffer = with_room(getattr(self, name), part, start // step, chunked(end) // step)
            buffer[:, :, start // step : end // step] = part
            setattr(self, name, buffer)

    def _dequantized(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not tokens:
            return self.keys, self.values
        groups = tokens // QUANTIZATION_GROUP
        codes = self.key_codes[:, :, :tokens].unflatten(2, (groups, QUANTIZATION_GROUP))
        scale, zero = self.key_scale[:, :, :groups, None], self.key_zero[:, :, :groups, None]
        keys = dequantize(codes, self.bits, scale, zero).flatten(2, 3)
        parts = (self.value_codes, self.value_scale, self.value_zero)
        value_codes, value_scale, value_zero = (part[:, :, :tokens] for part in parts)
        return keys, dequantize(value_codes, self.bits, value_scale, value_zero)
