"""Figure `pattern`: which key blocks a query block sees, in full attention and in each sparse pattern of the run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from longgen.pattern import SparsePattern, dense_pairs
from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run

MAX_BLOCKS = 96  # more are too small to see
MAX_BLOCKS_WITH_GRID = 48
ACROSS = 3  # panels in a row
ROLES = {
    "not seen": style.UNSEEN_COLOR,
    "full attention": style.FULL,
    "sink": style.SINK,
    "local window": style.LOCAL,
    "strided": style.STRIDED,
}


def roles(pattern: SparsePattern | None, blocks: int, head_offset: int = 0) -> np.ndarray:
    """Why each key block (column) is seen by each query block (row), as indices into ``ROLES``; -1 above the diagonal.

    A block that is seen for several reasons counts as local, else as sink, else as strided. None is full attention.
    """
    query, key = np.arange(blocks)[:, None], np.arange(blocks)[None, :]
    if pattern is None:
        matrix = np.where(key <= query, 1, 0)
    else:
        plain = pattern.without_stride()
        local = dataclasses.replace(plain, sink_blocks=0).visible(query, key)
        sink = plain.visible(query, key) & ~local
        strided = pattern.visible(query, key, head_offset) & ~local & ~sink
        matrix = np.select([local, sink, strided], [3, 2, 4], default=0)
    return np.where(key <= query, matrix, -1)


def _heads(pattern: SparsePattern | None, run: Run) -> list[tuple[int, int]]:
    """KV heads to show, with their offsets: the first, and the last too where heads see different blocks."""
    if pattern is None or not pattern.staggered:
        return [(0, 0)]
    offsets = pattern.head_offsets(run.plan.model["num_kv_heads"])
    return [(head, offsets[head]) for head in sorted({0, len(offsets) - 1})]


def draw(run: Run) -> Drawing:
    """Block matrices (query blocks down, key blocks across) beside full attention, with the share of attended pairs."""
    length = run.plan.trained_length
    patterns: dict[str, SparsePattern | None] = {"full attention": None}
    for variant in run.plan.variants.values():
        if variant.layout.num_sparse:
            patterns.setdefault(variant.pattern_name, variant.pattern)
    # enough to see the window and some strided columns, however long the context
    sparse = [pattern for pattern in patterns.values() if pattern]
    count = min(MAX_BLOCKS, max([24, *(pattern.local_blocks + 4 * pattern.stride for pattern in sparse)]))
    heads = [(name, pattern, *head) for name, pattern in patterns.items() for head in _heads(pattern, run)]
    lines = -(-len(heads) // ACROSS)
    figure = style.new_figure(
        "Which blocks a query sees: full attention and the sparse layers",
        f"{words.run_note(run)} · first {count} blocks; shares of the pairs at {words.format_length(length)} tokens",
        height=0.45 + 3.0 * lines,
    )
    grid = figure.subplots(lines, min(ACROSS, len(heads)), squeeze=False)
    block_size = sparse[0].block_size if sparse else -(-length // count)
    rows = []
    for axes, (name, pattern, head, offset) in zip(grid.flat, heads, strict=False):
        size = pattern.block_size if pattern else block_size
        blocks = max(1, min(count, length // size))
        matrix = roles(pattern, blocks, offset)
        share = (pattern.attended_pairs(length, offset) if pattern else dense_pairs(length)) / dense_pairs(length)
        _draw_matrix(axes, matrix)
        title = words.pattern_label(pattern) if pattern else "full attention"
        if pattern and pattern.staggered:
            title = f"stride {pattern.stride}, staggered: head {head + 1}"
        axes.set_title(f"{title}\n{100 * share:.1f} % of the pairs" if pattern else f"{title}\nall pairs")
        axes.set_xlabel(f"key block of {size} tokens")
        query, key = np.nonzero(matrix >= 0)
        role_names = [list(ROLES)[role] for role in matrix[query, key]]
        about = {"pattern": name, "head": head, "query_block": query, "key_block": key, "seen_as": role_names}
        rows.append(pd.DataFrame(about | {"attended_share": share}))
    for axes in grid[:, 0]:
        axes.set_ylabel("query block")
    for axes in grid.flat[len(heads) :]:
        axes.remove()
    data = pd.concat(rows, ignore_index=True)
    handles = [
        Patch(facecolor=color, edgecolor="#bbbbbb", linewidth=0.5, label=role)
        for role, color in ROLES.items()
        if role in set(data["seen_as"])
    ]
    style.legend_below(figure, handles)
    return Drawing(figure, data)


def _draw_matrix(axes: Axes, matrix: np.ndarray) -> None:
    visible_roles = np.ma.masked_less(matrix, 0)
    colors = ListedColormap(list(ROLES.values()))
    # pcolormesh, not imshow: vector cells, sharp at any size
    blocks = len(matrix)
    edges = np.arange(blocks + 1) - 0.5
    mesh = axes.pcolormesh(edges, edges, visible_roles, cmap=colors, vmin=0, vmax=len(ROLES) - 1, snap=False)
    few = blocks <= MAX_BLOCKS_WITH_GRID
    mesh.set(edgecolor="white" if few else "face", linewidth=0.35 if few else 0.1)
    axes.set_aspect("equal")
    axes.set_ylim(blocks - 0.5, -0.5)  # the first query at the top, as in a mask
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
