"""A model with random weights, and what prefill and decoding of stacks of its layers take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from longgen.cache_layout import chunked
from longgen.modeling import LongGenCache, longgen_config
from longgen.profiling.device import Timing, capture_graph, time_run
from longgen.profiling.fastest import PrefillConfig
from longgen.profiling.models import become, random_stack
from longgen.profiling.stacks import Stack
from longgen.shapes import ModelShape
from longgen.training.base import shape_config

DECODED_TOKENS = 32  # steps that one time of decoding is the mean of
_WARM_UP = 2  # steps before: one eager, one replayed
UPDATE_TOKENS = 8192  # that a cache is given at once where nothing is computed


@dataclass(frozen=True)
class InferenceTiming:
    """Time and memory of a prefill or a decode step.

    Attributes:
        timing: seconds of a prefill or of a step of decoding, and the most memory meanwhile.
        kv_bytes: of the storage of its keys and values.
    """

    timing: Timing
    kv_bytes: int


class InferenceStack:
    """Layers of a model's true shape under its embeddings and LM head.

    One set of weights stands for all stacks of as many layers or fewer, as in training.

    Args:
        shape: of the whole model.
        num_layers: of the largest stack.
        device: ``cpu`` or ``cuda``.
        dtype: of weights, activations and cache.
        batch: sequences at a time, all of the same length.

    Attributes:
        sparse_kernel: the name in `longgen.attention.BACKENDS` of what reads prompts in sparse layers.

    Raises:
        torch.OutOfMemoryError: so many layers do not fit.
    """

    def __init__(self, shape: ModelShape, num_layers: int, device: str, dtype: torch.dtype, batch: int = 1) -> None:
        torch.manual_seed(0)
        self.shape, self.device, self.dtype, self.batch = shape, device, dtype, batch
        self.model = random_stack(shape, num_layers, 2**20, device, dtype).eval()
        self.sparse_kernel = self.model.attention_kernels()["sparse"]

    @torch.no_grad()
    def prefill(self, stack: Stack, length: int, config: PrefillConfig) -> InferenceTiming:
        """Read ``length`` random tokens of each sequence into a new cache, chunk by chunk, and predict the next."""
        self._use(stack, config.kernel)
        cache = self._empty(stack, length)
        timing = time_run(lambda: self._read(cache, 0, length, config.chunk), self.device)
        return InferenceTiming(timing, _size(cache))

    @torch.no_grad()
    def decode(self, stack: Stack, length: int, kernel: str, capture: bool) -> InferenceTiming:
        """A step of decoding, one token of each sequence after ``length``; the mean of `DECODED_TOKENS` in a row.

        Args:
            stack: of layers.
            length: tokens before.
            kernel: of full layers, a name in `DECODE_BACKENDS`.
            capture: replay the step as a CUDA graph, as a serving engine would, so that the host's time does not count.
        """
        self._use(stack, kernel)
        cache = self._fixed(stack, length)
        step = self.decode_step(cache)
        eager = time_run(step, self.device)  # compiles; and the memory of a graph's replay is not counted
        run = capture_graph(step) if capture else step
        run()
        self._mark_seen(cache, length)
        timing = time_run(lambda: [run() for _ in range(DECODED_TOKENS)], self.device)
        return InferenceTiming(Timing(timing.seconds / DECODED_TOKENS, _most(eager, timing)), _size(cache))

    @torch.no_grad()
    def attempt(self, stack: Stack, length: int, config: PrefillConfig, kernel: str) -> InferenceTiming | None:
        """The last chunk of a prefill and one decoded token after it: what needs most memory; None if it is too much.

        The past is made up: only its size counts.
        """
        try:
            last = self._read_last(stack, length, config)
            self._use(stack, kernel)
            decoded = time_run(lambda: self.decode_step(self._fixed(stack, length))(), self.device)
        except torch.OutOfMemoryError:
            return None  # and what was made is freed, with the frames that held it
        return InferenceTiming(
            Timing(last.timing.seconds + decoded.seconds, _most(last.timing, decoded)), last.kv_bytes
        )

    def decode_step(self, cache: LongGenCache | None) -> Callable[[], None]:
        """Decode a token of each sequence after those of ``cache``; fixed shapes, and nothing waits for the device."""
        token = torch.zeros((self.batch, 1), dtype=torch.int64, device=self.device)

        def step() -> None:
            logits = self.model(input_ids=token, past_key_values=cache, use_cache=cache is not None).logits
            token.copy_(logits[:, -1:].argmax(-1))

        return step

    def _use(self, stack: Stack, kernel: str) -> None:
        become(self.model, stack)
        self.model.use_full_attention(kernel)

    def _read_last(self, stack: Stack, length: int, config: PrefillConfig) -> InferenceTiming:
        start = max(0, length - config.chunk)
        self._use(stack, config.kernel)
        cache = self._empty(stack, length)
        if start and cache is not None:
            self._fill_at_random(cache, start, length)
        return InferenceTiming(
            time_run(lambda: self._read(cache, start, length, config.chunk), self.device), _size(cache)
        )

    def _read(self, cache: LongGenCache | None, start: int, end: int, chunk: int) -> None:
        for first in range(start, end, chunk):
            size = (self.batch, min(chunk, end - first))
            tokens = torch.randint(self.shape.vocab_size, size, device=self.device)
            self.model(input_ids=tokens, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1)

    def _empty(self, stack: Stack, length: int) -> LongGenCache | None:
        if not stack.num_layers:
            return None
        cache = LongGenCache(_config(self.shape, stack, length))
        cache.reserve(length)
        return cache

    def _fill_at_random(self, cache: LongGenCache, seen: int, length: int) -> None:
        """Fill an `_empty` cache with ``seen`` random tokens, full layers with room for ``length``."""
        for _, part in cache.parts():
            tokens = chunked(length) if part.head_pattern.pattern is None else part.head_pattern.kept_count(seen)
            part.restore({name: self._random(tokens) for name in ("keys", "values")}, seen)

    def _fixed(self, stack: Stack, length: int) -> LongGenCache | None:
        """A cache of fixed shapes with ``length`` random tokens, and room for those to decode; None for no layers."""
        if not stack.num_layers:
            return None
        room = length + _WARM_UP + DECODED_TOKENS
        cache = LongGenCache(_config(self.shape, stack, room), max_length=room)
        for _, part in cache.parts():
            part.lazy_initialization(self._random(0), self._random(0))
            for states in (part.keys, part.values):
                _fill(states)
        self._mark_seen(cache, length)
        return cache

    def _mark_seen(self, cache: LongGenCache | None, length: int) -> None:
        for _, part in cache.parts() if cache is not None else ():
            part.mark_seen(length)

    def _random(self, tokens: int) -> torch.Tensor:
        size = (self.batch, self.shape.num_kv_heads, tokens, self.shape.head_dim)
        return torch.randn(size, device=self.device, dtype=self.dtype)


def storage_bytes(shape: ModelShape, stack: Stack, length: int, batch: int, device: str, dtype: torch.dtype) -> int:
    """Bytes of the storages of the whole cache of ``stack``, as it stands after a prompt of ``length`` tokens.

    Layer by layer: each is given its tokens, counted and freed, as all of them together may not fit.
    """
    cache, counted = LongGenCache(_config(shape, stack, length)), 0
    cache.reserve(length)
    token = torch.zeros((batch, shape.num_kv_heads, 1, shape.head_dim), device=device, dtype=dtype)
    for index in range(stack.num_layers):
        for start in range(0, length, UPDATE_TOKENS):
            states = token.expand(-1, -1, min(UPDATE_TOKENS, length - start), -1)
            cache.update(states, states, index)
        counted += cache.nbytes()
        cache.layers[index].reset()
    return counted


def _config(shape: ModelShape, stack: Stack, length: int) -> PretrainedConfig:
    base = shape_config(stack.cut(shape), length)
    return longgen_config(base, stack.layout, stack.hybrid.pattern)


def _fill(states: torch.Tensor) -> None:
    """Random numbers of a few tokens, again and again: to draw as many as there are takes minutes on a CPU."""
    few = torch.randn_like(states[:, :, :UPDATE_TOKENS])
    for part in states.split(UPDATE_TOKENS, dim=2):
        part.copy_(few[:, :, : part.shape[2]])


def _size(cache: LongGenCache | None) -> int:
    return 0 if cache is None else cache.nbytes()


def _most(*times: Timing) -> int | None:
    """The largest of their peaks; None on a CPU."""
    return max((one.peak_bytes for one in times if one.peak_bytes is not None), default=None)
