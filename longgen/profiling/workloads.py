"""What is timed: heads, lengths, patterns and stages; how much work each needs; and its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from longgen.attention.call import AttentionCall
from longgen.hybrid import HeadPattern
from longgen.pattern import SparsePattern
from longgen.shapes import MODEL_SHAPES, ModelShape

# Those of the design: blocks of 64, a sink block, a window of 16 blocks (our choice; the paper states no sizes).
PATTERNS: dict[str, SparsePattern] = {"sink": SparsePattern(64, 1, 16), "stride-16": SparsePattern(64, 1, 16, 16)}
FULL = "full"  # attention without a pattern
PATTERN_NAMES = (FULL, *PATTERNS)
STAGES = ("forward", "forward+backward", "decode")
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # of query, key and value


@dataclass(frozen=True)
class HeadShape:
    """The attention heads of a model.

    Attributes:
        name: of the model.
        num_heads: query heads.
        num_kv_heads: KV heads.
        head_dim: values per head.
    """

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, shape: ModelShape) -> HeadShape:
        """Those of a model of ``shape``."""
        return cls(shape.name, shape.num_heads, shape.num_kv_heads, shape.head_dim)

    def columns(self) -> dict[str, str | int]:
        """The heads as columns of a record."""
        sizes = {"num_heads": self.num_heads, "num_kv_heads": self.num_kv_heads, "head_dim": self.head_dim}
        return {"shape": self.name, **sizes}

    def call(self, pattern: SparsePattern, query_offset: int = 0) -> AttentionCall:
        """One call of these heads, which all see the same."""
        return AttentionCall(pattern, self.head_dim**-0.5, query_offset, (0,) * self.num_kv_heads)


LLAMA2_7B, LLAMA2_70B = HeadShape.of(MODEL_SHAPES["llama2-7b"]), HeadShape.of(MODEL_SHAPES["llama2-70b"])
TINY = HeadShape("tiny", 4, 2, 32)


@dataclass(frozen=True)
class Workload:
    """One thing to time: a layer's attention.

    Attributes:
        stage: ``forward``, ``forward+backward``, or ``decode`` (one token after ``length``).
        shape: the heads.
        length: tokens.
        pattern: a name in `PATTERN_NAMES`.
        batch: sequences.
    """

    stage: str
    shape: HeadShape
    length: int
    pattern: str
    batch: int = 1

    @property
    def head_pattern(self) -> HeadPattern:
        """What the heads see."""
        return HeadPattern(PATTERNS.get(self.pattern))

    @property
    def kv_len(self) -> int:
        """Keys at hand: all tokens, or to decode what the layer's cache holds, and the new one."""
        return self.head_pattern.kept_count(self.length) + 1 if self.stage == "decode" else self.length

    def flops(self) -> float:
        """Floating-point operations that the pattern needs: two products forward, five more backward."""
        pairs = self.kv_len if self.stage == "decode" else self.head_pattern.attended_pairs(self.length)
        products = 7 if self.stage == "forward+backward" else 2
        return 2.0 * products * pairs * self.shape.head_dim * self.shape.num_heads * self.batch

    def bytes(self, bytes_per_value: int) -> int:
        """Fewest bytes of device memory to move: every input read once, every output written once."""
        shape, backward = self.shape, self.stage == "forward+backward"
        queries = 1 if self.stage == "decode" else self.length
        # query, output and their gradients; keys, values and theirs
        per_query, per_key = (4, 4) if backward else (2, 2)
        values = queries * per_query * shape.num_heads + self.kv_len * per_key * shape.num_kv_heads
        return values * shape.head_dim * self.batch * bytes_per_value

    def inputs(self, device: str, dtype: torch.dtype, seed: int) -> list[torch.Tensor]:
        """Random query, key and value [batch, heads, tokens, head_dim], laid out in memory as in a model."""
        generator = torch.Generator(device).manual_seed(seed)
        q_len = 1 if self.stage == "decode" else self.length
        sizes = [(q_len, self.shape.num_heads), *[(self.kv_len, self.shape.num_kv_heads)] * 2]
        tensors = []
        for tokens, heads in sizes:
            if self.stage == "decode":  # a cache keeps a head's tokens adjacent
                size = (self.batch, heads, tokens, self.shape.head_dim)
                tensors.append(torch.randn(size, device=device, dtype=dtype, generator=generator))
            else:
                size = (self.batch, tokens, heads, self.shape.head_dim)
                tensors.append(torch.randn(size, device=device, dtype=dtype, generator=generator).transpose(1, 2))
        return tensors


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` rather than ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")
