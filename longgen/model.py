"""`Model`: a shape and its hybrid, and what they cost by arithmetic alone: KV bytes, FLOPs and bytes moved.

Conventions, for all counts:

* A multiply and an add are 2 FLOPs. Counted are the matrices of the layers, the LM head, and attention over the pairs
  that the pattern lets through; not norms, RoPE, softmax, activation functions and the embedding look-up.
* Sizes of KV caches count keys and values of every layer; ``length`` is in tokens, per sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from longgen.cache_layout import GROWTH_TOKENS, chunked, quantized_bytes
from longgen.errors import ConfigError
from longgen.hybrid import HeadPattern, Hybrid
from longgen.layout import Layout
from longgen.shapes import ModelShape

VALUE_BYTES = {"float32": 4, "bfloat16": 2}  # of a number, by dtype


@dataclass(frozen=True)
class Model:
    """A model by its sizes, without weights.

    All counts raise ConfigError where a number is not a whole number >= 1.

    Attributes:
        shape: its sizes.
        hybrid: which heads of which layers see what.

    Raises:
        ConfigError: the layout has another depth than the shape.
    """

    shape: ModelShape
    hybrid: Hybrid

    def __post_init__(self) -> None:
        layers = self.hybrid.layout.num_layers
        if layers != self.shape.num_layers:
            raise ConfigError(f"layout has {layers} layers: {self.shape.name} has {self.shape.num_layers}")

    @property
    def full(self) -> Model:
        """The same with full attention in all layers."""
        return Model(self.shape, Hybrid(Layout((True,) * self.shape.num_layers), self.hybrid.pattern))

    @cached_property
    def head_patterns(self) -> Mapping[HeadPattern, int]:
        """How many KV heads of all layers together see the past in each way."""
        counts = Counter[HeadPattern]()
        for layer in range(self.shape.num_layers):
            for heads, head_pattern in self.hybrid.head_groups(layer, self.shape.num_kv_heads):
                counts[head_pattern] += len(heads)
        return counts

    def kv_cache_bytes(
        self,
        length: int,
        bytes_per_value: int = 2,
        batch: int = 1,
        full_chunk: int = 1,
        full_bits: int | None = None,
        slots: bool = False,
    ) -> int:
        """Bytes of the KV cache once ``length`` tokens went through it.

        A sparse head holds exactly `SparsePattern.kept_count` tokens, a full head all, rounded up to its chunk.

        Args:
            length: tokens seen, per sequence.
            bytes_per_value: 2 for 16-bit, 4 for 32-bit floats.
            batch: sequences.
            full_chunk: tokens by which a full layer's buffers grow; 1 counts what is needed, and our cache's
                ``GROWTH_TOKENS`` what it allocates.
            full_bits: 8 or 4 for full heads quantised as our cache does it, in its chunks.
            slots: count what a cache for rows of different lengths, or of fixed size, allocates for the longest row or
                for its ``max_length``.
        """
        check_sizes(length=length, bytes_per_value=bytes_per_value, batch=batch, full_chunk=full_chunk)
        total = 0
        for head_pattern, heads in self.head_patterns.items():
            if head_pattern.pattern is None and full_bits is not None:
                total += heads * quantized_bytes(length, self.shape.head_dim, full_bits, bytes_per_value)
                continue
            tokens = head_pattern.slot_count(length) if slots else head_pattern.kept_count(length)
            tokens = chunked(tokens, full_chunk) if head_pattern.pattern is None else tokens
            total += heads * 2 * tokens * self.shape.head_dim * bytes_per_value
        return total * batch

    def attention_flops(self, length: int, batch: int = 1) -> int:
        """FLOPs of attention in one forward pass over all layers.

        Each query head spends 4 x head_dim FLOPs on a (query, key) pair: 2 x head_dim each for QK and for PV.
        """
        shape = self.shape
        check_sizes(length=length, batch=batch)
        head_patterns = self.head_patterns.items()
        pairs = sum(heads * head_pattern.attended_pairs(length) for head_pattern, heads in head_patterns)
        return 4 * shape.head_dim * (shape.num_heads // shape.num_kv_heads) * pairs * batch

    def prefill_flops(self, length: int, batch: int = 1) -> int:
        """FLOPs of reading a prompt of ``length`` tokens. Only the last needs logits, so the LM head counts once."""
        shape = self.shape
        attention = self.attention_flops(length, batch)
        return attention + 2 * batch * (length * shape.num_layers * shape.layer_weights + shape.head_weights)

    def training_flops(self, length: int, batch: int = 1, recompute: bool = False) -> int:
        """FLOPs of one training step on ``batch`` sequences of ``length`` tokens: 3 forward passes with all logits.

        The backward pass counts as two forward passes, in attention as well; that FlashAttention computes the scores
        once more in it is not counted.

        Args:
            length: tokens per sequence.
            batch: sequences.
            recompute: activation checkpointing repeats the whole forward pass: 4 instead of 3.
        """
        shape = self.shape
        attention = self.attention_flops(length, batch)
        weights = shape.num_layers * shape.layer_weights + shape.head_weights
        return (4 if recompute else 3) * (attention + 2 * batch * length * weights)

    def decode_bytes(self, length: int, batch: int = 1, bytes_per_value: int = 2) -> int:
        """Bytes read to decode the token after ``length`` cached ones, for every sequence of the batch.

        All parameters are read once per step whatever the batch, and the KV cache of every sequence once. That includes
        an untied embedding table, of which a step in truth reads one row per sequence: the ideal speed-up comes out
        0.3-0.4 % lower for it (Llama-2 7B at 128K, a third of the layers full). Writes and activations are not counted.

        Args:
            length: tokens seen, per sequence.
            batch: sequences.
            bytes_per_value: of weights and KV cache alike.
        """
        cache = self.kv_cache_bytes(length, bytes_per_value, batch)
        return self.shape.parameters * bytes_per_value + cache

    def decode_flops(self, length: int, batch: int = 1) -> int:
        """FLOPs of decoding the token after ``length`` cached ones, which sees them and itself, for every sequence."""
        shape = self.shape
        check_sizes(length=length, batch=batch)
        keys = sum(heads * (head_pattern.kept_count(length) + 1) for head_pattern, heads in self.head_patterns.items())
        attention = 4 * shape.head_dim * (shape.num_heads // shape.num_kv_heads) * keys
        return batch * (attention + 2 * (shape.num_layers * shape.layer_weights + shape.head_weights))

    def prefill_peak_bytes(self, length: int, chunk: int, batch: int = 1, bytes_per_value: int = 2) -> int:
        """Peak memory of reading a prompt of ``length`` tokens in chunks of ``chunk``, with logits of the last alone.

        Weights, the KV cache (reserved for ``length``), and `working_bytes`.

        Args:
            length: tokens of the prompt, per sequence.
            chunk: tokens per forward pass.
            batch: sequences.
            bytes_per_value: of weights, activations and KV cache.
        """
        kv = self.kv_cache_bytes(length, bytes_per_value, batch, GROWTH_TOKENS)
        work = self.working_bytes(length, chunk, batch, bytes_per_value)
        return self.shape.parameters * bytes_per_value + kv + work

    def working_bytes(self, length: int, chunk: int, batch: int = 1, bytes_per_value: int = 2) -> int:
        """What the last ``chunk`` of ``length`` tokens needs beside weights and KV cache, at a layer's widest point.

        As PyTorch runs the Hugging Face model without compiling: the gated MLP holds three intermediate and four hidden
        states; a sparse head holds queries, keys and values beside three hidden states, then the kept past joined with
        the new tokens, and what of it is kept. Masks, logits and attention's own workspace are not counted. A chunk of
        1 is a step of decoding.

        Args:
            length: tokens per sequence, the chunk included.
            chunk: tokens of this forward pass, at most all.
            batch: sequences.
            bytes_per_value: of activations and KV cache.
        """
        shape = self.shape
        check_sizes(length=length, chunk=chunk, batch=batch, bytes_per_value=bytes_per_value)
        chunk = min(chunk, length)
        mlp = chunk * (3 * shape.intermediate_size + 4 * shape.hidden_size)
        heads = shape.num_heads + 2 * shape.num_kv_heads
        attention = chunk * (3 * shape.hidden_size + heads * shape.head_dim)
        layer_caches = [
            sum(
                len(group)
                * 2
                * shape.head_dim
                * (head_pattern.kept_count(length - chunk) + chunk + head_pattern.kept_count(length))
                for group, head_pattern in self.hybrid.head_groups(layer, shape.num_kv_heads)
                if head_pattern.pattern is not None
            )
            for layer in range(shape.num_layers)
        ]
        return max(mlp, attention + max(layer_caches)) * batch * bytes_per_value


def check_sizes(**numbers: int) -> None:
    """Raise ConfigError unless all ``numbers`` are whole and >= 1."""
    for name, value in numbers.items():
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name} is {value!r}: allowed is a whole number >= 1")


@dataclass(frozen=True)
class CostPlan:
    """Predictions for one model and length; the ideals compare with full attention.

    An ideal speed-up is the same quantity of full attention divided by that of the hybrid: what a machine would reach
    that is limited by nothing else (FLOPs for prefill and training, bytes for decoding). It is a prediction.

    Attributes:
        length: tokens per sequence.
        kv_bytes: bytes of the hybrid's KV cache.
        kv_bytes_full: bytes with full attention in all layers.
        kv_fraction: ``kv_bytes / kv_bytes_full``.
        kv_reduction: ``1 - kv_fraction``.
        prefill_flops: see `Model.prefill_flops`.
        training_flops: see `Model.training_flops`; without recomputation.
        decode_bytes: see `Model.decode_bytes`.
        ideal_prefill_speedup: by FLOPs.
        ideal_decode_speedup: by bytes.
        ideal_training_speedup: by FLOPs; the same with and without recomputation.
    """

    length: int
    kv_bytes: int
    kv_bytes_full: int
    kv_fraction: float
    kv_reduction: float
    prefill_flops: int
    training_flops: int
    decode_bytes: int
    ideal_prefill_speedup: float
    ideal_decode_speedup: float
    ideal_training_speedup: float


def make_plan(model: Model, length: int, batch: int = 1, bytes_per_value: int = 2) -> CostPlan:
    """The predictions for one length; arguments as in `Model.decode_bytes`.

    Raises:
        ConfigError: as `Model`'s counts.
    """
    both = (model, model.full)
    kv, kv_full = (each.kv_cache_bytes(length, bytes_per_value, batch) for each in both)
    prefill, prefill_full = (each.prefill_flops(length, batch) for each in both)
    training, training_full = (each.training_flops(length, batch) for each in both)
    decode, decode_full = (each.decode_bytes(length, batch, bytes_per_value) for each in both)
    return CostPlan(
        length=length,
        kv_bytes=kv,
        kv_bytes_full=kv_full,
        kv_fraction=kv / kv_full,
        kv_reduction=1 - kv / kv_full,
        prefill_flops=prefill,
        training_flops=training,
        decode_bytes=decode,
        ideal_prefill_speedup=prefill_full / prefill,
        ideal_decode_speedup=decode_full / decode,
        ideal_training_speedup=training_full / training,
    )
