"""Stage ``kernel-tuning``: every candidate tile of every kernel, so that numbers decide `longgen.attention.tiles`.

A candidate that does not fit shared memory shows as failed. Those that would spill many registers on an H100 are left
out: what compiles how can be read without a GPU (`tests.aot`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

import torch

from longgen.attention.tiles import Tile, Tiles
from longgen.attention.triton_attention import backward, forward
from longgen.attention.triton_decode import triton_decode
from longgen.attention.triton_launch import tiles_of, why_unsupported
from longgen.profiling.rounds import median_columns
from longgen.profiling.session import Budget, Stage
from longgen.profiling.timing import repeat
from longgen.profiling.workloads import FULL, LLAMA2_7B, LLAMA2_70B, PATTERNS, TINY, HeadShape, Workload, dtype_name
from longgen.records.kernels import KernelTuningRecord

# kernel -> queries, keys, warps, stages to combine
CANDIDATES: dict[str, tuple[tuple[int, ...], ...]] = {
    "forward": ((64, 128), (32, 64), (4, 8), (2, 3, 4)),
    "queries": ((64, 128), (32, 64), (4, 8), (1, 2, 3)),
    "keys": ((32, 64), (64,), (4, 8), (1, 2, 3)),
    "far_keys": ((32, 64), (64,), (4, 8), (1, 2, 3)),
    "decode": ((16,), (32, 64, 128), (4, 8), (2, 3, 4)),
}
BY_KEYS = {"keys": "far_keys", "far_keys": "keys"}

TuningCase = tuple[HeadShape, str, str, Tile]  # with the names of pattern and kernel


class KernelTuning(Stage[TuningCase, KernelTuningRecord]):
    """All candidates, one kernel's tile changed at a time.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: of the inputs.
        tiny: small sizes, to try the code.
    """

    kind, title, unit = "kernel-tuning", "tuning", "candidate"
    key = ("kernel", "shape", "length", "pattern", "queries", "keys", "warps", "stages")

    def __init__(self, device: str, dtype: torch.dtype, tiny: bool) -> None:
        self.device, self._dtype, self._tiny = device, dtype, tiny
        self.settings = {"dtype": dtype_name(dtype), "tiny": tiny}
        self._shapes, self._length = ([TINY], 64) if tiny else ([LLAMA2_7B, LLAMA2_70B], 32768)

    def more_cases(self) -> list[TuningCase]:
        return list(_cases(self._shapes, self._tiny))

    def blank(self, case: TuningCase) -> KernelTuningRecord:
        shape, pattern, kernel, tile = case
        return KernelTuningRecord.blank(
            kernel=kernel,
            **shape.columns(),
            length=self._length,
            pattern=pattern,
            **asdict(tile),
            dtype=dtype_name(self._dtype),
            shipped=getattr(_own_tiles(shape, self.device, self._dtype), kernel) == tile,
        )

    def measure(self, case: TuningCase, budget: Budget) -> list[KernelTuningRecord]:
        shape, pattern, kernel, tile = case
        run = _run(kernel, tile, shape, self._length, pattern, self.device, self._dtype)
        seconds = repeat(run, self.device, 0.01 if self._tiny else 0.1)
        return [replace(self.blank(case), **median_columns(seconds))]

    def table(self, records: Sequence[KernelTuningRecord]) -> str:
        """Nothing: who chooses tiles reads the file."""
        return ""


def _cases(shapes: list[HeadShape], tiny: bool) -> Iterator[TuningCase]:
    for shape, kernel in itertools.product(shapes, CANDIDATES):
        patterns = (FULL,) if kernel == "decode" else tuple(PATTERNS)
        sizes = itertools.product(*CANDIDATES[kernel])
        tiles = [Tile(*size) for size in sizes if not spills(*size)]
        for pattern, tile in itertools.product(patterns, tiles[:1] if tiny else tiles):
            yield shape, pattern, kernel, tile


def _own_tiles(shape: HeadShape, device: str, dtype: torch.dtype) -> Tiles:
    """Those that are shipped."""
    return tiles_of(torch.empty(1, 1, 1, shape.head_dim, device=device, dtype=dtype))


def spills(queries: int, keys: int, warps: int, stages: int) -> bool:
    """Whether a tile has more rows per warp than registers hold (head_dim 128)."""
    return queries // warps > 16


def _run(
    kernel: str, tile: Tile, shape: HeadShape, length: int, pattern: str, device: str, dtype: torch.dtype
) -> Callable[[], object]:
    """A call that uses ``tile`` for one kernel."""
    stage = "decode" if kernel == "decode" else "forward"
    query, key, value = Workload(stage, shape, length, pattern).inputs(device, dtype, seed=0)
    if problem := why_unsupported(query, key):
        raise ValueError(problem)
    own, changes = tiles_of(query), {kernel: tile}
    if other := BY_KEYS.get(kernel):  # which adds up the sums of the other
        changes[other] = replace(getattr(own, other), keys=tile.keys)
    tiles = replace(own, **changes)
    if kernel == "decode":
        return lambda: triton_decode(query, key, value, 0.1, tile=tile)
    call = shape.call(PATTERNS[pattern])
    if kernel == "forward":
        return lambda: forward(query, key, value, call, tiles)
    output, lse = forward(query, key, value, call)
    direction = torch.randn_like(output)
    return lambda: backward(direction, query, key, value, output, lse, call, tiles)
