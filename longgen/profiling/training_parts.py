"""The parts of a training step that a CPU takes minutes for: each timed in pieces that are alike, and put together.

All heads of a layer do the same work, and so do all tiles of tokens in what is done token by token: a share of them is
timed, and counted as often as it occurs. That takes the memory of the share alone, where a layer in work at 128K tokens
takes more than most machines have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from longgen.attention import full_attention, sparse_attention
from longgen.config import TrainingSettings
from longgen.modeling.attention import register_implementation
from longgen.names import CHUNK_TOKENS
from longgen.profiling.composition import HEAD, LAYER_KINDS, TOKENS, UPDATE, PartTime
from longgen.profiling.device import time_run
from longgen.profiling.models import random_stack
from longgen.profiling.training_slice import how_to_train
from longgen.profiling.workloads import FULL, PATTERNS
from longgen.shapes import ModelShape
from longgen.training.loss import weighted_loss
from longgen.training.optimizer import make_optimizers

# Most shares that the heads of a layer are divided into; tokens of a tile of a layer, and of one of the LM head, which
# has two chunks of the loss at least if the whole row has (our choice).
MOST_SHARES, LAYER_TILE, HEAD_TILE = 8, 2048, 2 * CHUNK_TOKENS

_BYTES_UPDATED = 22  # of a float32 weight in AdamW: itself, gradient, two moments, a temporary, and copies in bfloat16
_ATTENTION_COPIES = 24  # of the queries of a share, at the widest point of its backward pass, those of keys included
_TILE_VALUES = 12  # of hidden and intermediate states per token in a layer's backward pass, in float32 at the worst


def needed_bytes(shape: ModelShape, length: int, bytes_per_value: int) -> int:
    """Most memory that the parts are predicted to take: weights with their gradients, and the largest part."""
    weights = 2 * bytes_per_value * (shape.layer_weights + 2 * shape.head_weights)
    share = _ATTENTION_COPIES * length * shape.num_heads // _shares(shape) * shape.head_dim * bytes_per_value
    tile = LAYER_TILE * 4 * (_TILE_VALUES * shape.hidden_size + 4 * shape.intermediate_size)
    head = CHUNK_TOKENS * 4 * shape.vocab_size + 4 * shape.head_weights + HEAD_TILE * 16 * shape.hidden_size
    return weights + max(share, tile, head, _BYTES_UPDATED * shape.hidden_size * shape.intermediate_size)


def _shares(shape: ModelShape) -> int:
    return math.gcd(shape.num_kv_heads, MOST_SHARES)


class TrainingParts:
    """A layer of a model's true shape with its embeddings and LM head, and the parts of a step on a row.

    Activations are recomputed as in `longgen.profiling.training_slice`: the forward pass of a layer counts twice.

    Args:
        shape: of the whole model.
        length: tokens of the row.
        dtype: of activations, and of the weights that they are multiplied with; weights are updated in float32.

    Attributes:
        kernels: the names of what computes attention, ``full`` and ``sparse``.
    """

    def __init__(self, shape: ModelShape, length: int, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.shape, self.length, self.dtype = shape, length, dtype
        self.settings: TrainingSettings = how_to_train(length, "float32", "cpu")[0]
        self.model = random_stack(shape, 1, length, "cpu", dtype).train()
        self.kernels = self.model.attention_kernels(dtype)
        register_implementation(_NO_ATTENTION, _no_attention)
        self.model.config._attn_implementation = _NO_ATTENTION

    def time(self, part: str) -> PartTime:
        """Time a piece of a part, a name in `PARTS`."""
        if part in LAYER_KINDS:
            return self._attention(part, self.length)
        return {TOKENS: self._layer, HEAD: self._head, UPDATE: self._update}[part]()

    def forecast(self, part: str, tokens: int) -> float:
        """Seconds that a piece of attention will take at the full length, from one at ``tokens``; once it is warm."""
        self._attention(part, tokens)
        growth = self.length / tokens
        return self._attention(part, tokens).seconds * (growth**2 if part == FULL else growth)

    def _attention(self, kind: str, length: int) -> PartTime:
        """A share of the heads of one layer: forward, once more, and backward."""
        shares = _shares(self.shape)
        query, key, value = (
            torch.randn(1, heads // shares, length, self.shape.head_dim, dtype=self.dtype, requires_grad=True)
            for heads in (self.shape.num_heads, self.shape.num_kv_heads, self.shape.num_kv_heads)
        )
        gradient, output = torch.randn_like(query), None

        def forward() -> None:
            nonlocal output
            output = (
                full_attention(query, key, value)
                if kind == FULL
                else sparse_attention(query, key, value, PATTERNS[kind])
            )

        def backward() -> None:
            assert output is not None
            output.backward(gradient)

        first = time_run(forward, "cpu").seconds
        # what is recomputed is the same computation: it is counted, not run
        return PartTime(2 * first + time_run(backward, "cpu").seconds, shares)

    def _layer(self) -> PartTime:
        """A tile of tokens through a layer, whose attention is left out."""
        tile = min(LAYER_TILE, self.length)
        hidden = torch.randn(1, tile, self.shape.hidden_size, dtype=self.dtype, requires_grad=True)
        gradient, layer = torch.randn_like(hidden), self.model.model.layers[0]
        positions = self.model.model.rotary_emb(hidden, torch.arange(tile)[None])

        def run() -> None:
            output = checkpoint(layer, hidden, position_embeddings=positions, use_reentrant=False)
            output.backward(gradient)

        return PartTime(self._timed(run), self.length / tile)

    def _head(self) -> PartTime:
        """A tile of tokens through embeddings, last norm, LM head and loss."""
        tile = min(HEAD_TILE, self.length)
        inputs, targets = torch.randint(self.shape.vocab_size, (2, 1, tile))
        weights = torch.ones(1, tile)

        def run() -> None:
            states = self.model.model.norm(self.model.model.embed_tokens(inputs))
            weighted_loss(states, self.model.lm_head.weight, targets, weights)[0].backward()

        return PartTime(self._timed(run), self.length / tile)

    def _update(self) -> PartTime:
        """A weight matrix in float32: clipped, updated, and copied twice to the dtype of the activations."""
        matrix = torch.nn.Linear(self.shape.hidden_size, self.shape.intermediate_size, bias=False)
        matrix.weight.grad = torch.full_like(matrix.weight, 1e-3)
        (optimizer,) = make_optimizers(matrix, self.settings.optimizer)
        optimizer.step()  # makes its state

        def run() -> None:
            torch.nn.utils.clip_grad_norm_(matrix.parameters(), self.settings.optimizer.gradient_clip)
            optimizer.step()
            for _ in range(2):  # gathered for the forward and for the backward pass
                matrix.weight.detach().to(self.dtype, copy=True)

        return PartTime(time_run(run, "cpu").seconds / matrix.weight.numel(), 1)

    def _timed(self, run: Callable[[], None]) -> float:
        self.model.zero_grad()  # gradients are not added to: there is one pass over all tokens
        return time_run(run, "cpu").seconds


_NO_ATTENTION = "longgen_no_attention"


class _Queries(torch.autograd.Function):
    """Gives the queries back, and passes gradients on to keys and values as attention would."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        ctx.heads = key.shape[1]
        return query.view_as(query)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (gradient,) = gradients
        return gradient, gradient[:, : ctx.heads], gradient[:, : ctx.heads]


def _no_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    output: torch.Tensor = _Queries.apply(query, key, value)
    return output.transpose(1, 2).contiguous(), None
