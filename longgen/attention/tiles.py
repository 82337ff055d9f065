"""Tile sizes of the Triton kernels: one explicit table, chosen by architecture, head_dim and width of the dtype.

Sizes are upper bounds: a tile of keys must divide the block of the pattern, and so must a tile of queries in the kernel
by keys. All are our choice; the compile gate checks that every row compiles, fits shared memory and spills nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tile:
    """Launch parameters of one kernel.

    Attributes:
        queries: rows of queries per tile (BLOCK_M).
        keys: keys per tile (BLOCK_N).
        warps: warps per program.
        stages: depth of the software pipeline.
    """

    queries: int
    keys: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiles:
    """Launch parameters of all kernels.

    Attributes:
        forward: of the output.
        queries: of dq.
        keys: of dk and dv, from queries within the window.
        far_keys: of dk and dv, from queries beyond the window; as many keys as in ``keys``, which adds up its sums.
        decode: whose queries are the heads of a group.
    """

    forward: Tile
    queries: Tile
    keys: Tile
    far_keys: Tile
    decode: Tile

    def __post_init__(self) -> None:
        if self.far_keys.keys != self.keys.keys:
            raise ValueError(f"far_keys has {self.far_keys.keys} keys: allowed are {self.keys.keys}, as in keys")


NARROW = Tiles(Tile(128, 64, 4, 3), Tile(128, 64, 8, 2), Tile(64, 32, 4, 2), Tile(64, 32, 4, 2), Tile(16, 64, 4, 2))
HOPPER_NARROW = Tiles(
    Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)
)
WIDE = Tiles(Tile(128, 32, 8, 2), Tile(64, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3))
# Two stages in the far kernel make Triton 3.6 wait for every wgmma (ptxas C7515); 3.9 would take them.
HOPPER_WIDE = Tiles(
    Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 64, 8, 1), Tile(16, 64, 4, 3)
)
# A head_dim that is no power of two needs masks, and with a second stage a few registers too many.
HOPPER_UNEVEN = replace(HOPPER_WIDE, keys=Tile(64, 64, 8, 1))
WIDEST = Tiles(Tile(64, 32, 8, 2), Tile(64, 32, 8, 1), Tile(32, 32, 8, 1), Tile(32, 32, 8, 1), Tile(16, 32, 8, 2))
# 64 keys by 256 would spill: the kernels by keys make do with the older tensor-core instructions
HOPPER_WIDEST = Tiles(
    Tile(64, 32, 8, 2), Tile(64, 32, 8, 2), Tile(32, 32, 8, 1), Tile(32, 32, 8, 1), Tile(16, 32, 8, 2)
)
# float32 has no exact tensor cores: small tiles, for correctness rather than speed
SMALL = Tile(16, 16, 4, 1)
EXACT = Tiles(Tile(32, 16, 8, 1), SMALL, SMALL, SMALL, Tile(16, 32, 8, 1))
HOPPER_EXACT = Tiles(SMALL, SMALL, SMALL, SMALL, Tile(16, 32, 8, 1))
EXACT_WIDEST = Tiles(SMALL, Tile(16, 16, 2, 1), SMALL, SMALL, Tile(16, 16, 8, 1))

# (compute capability, bytes per value, head_dim up to) -> tiles; looked up from the top, the first that holds is taken.
TABLE: list[tuple[int, int, int, Tiles]] = [
    (90, 2, 64, HOPPER_NARROW),
    (90, 2, 127, HOPPER_UNEVEN),
    (90, 2, 128, HOPPER_WIDE),
    (90, 2, 256, HOPPER_WIDEST),
    (0, 2, 64, NARROW),
    (0, 2, 128, WIDE),
    (0, 2, 256, WIDEST),
    (90, 4, 128, HOPPER_EXACT),
    (0, 4, 128, EXACT),
    (0, 4, 256, EXACT_WIDEST),
]


def tiles_for(capability: int, bytes_per_value: int, head_dim: int) -> Tiles:
    """The row of `TABLE` for a device.

    Args:
        capability: compute capability of the device times ten: 80 for A100, 90 for H100 and H200.
        bytes_per_value: 2 or 4.
        head_dim: at most 256.

    Raises:
        ValueError: no row.
    """
    for least, width, widest, tiles in TABLE:
        if capability >= least and bytes_per_value == width and head_dim <= widest:
            return tiles
    raise ValueError(
        f"head_dim is {head_dim} at {bytes_per_value} bytes per value: allowed is at most 256, 2 or 4 bytes"
    )
