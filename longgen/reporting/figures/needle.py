"""Figure `needle`: exact match by context length and depth of the needle, one heat map per variant."""

from __future__ import annotations

from longgen.errors import ArtifactError
from longgen.reporting import words
from longgen.reporting.drawing import Drawing
from longgen.reporting.heat_maps import draw_heat_maps, samples_per_cell
from longgen.reporting.measures import pool
from longgen.reporting.run import Run


def draw(run: Run) -> Drawing:
    """Heat maps of the smoke run's own needles; base and trained length marked."""
    rows = run.frame("retrieval")
    grid = rows[(rows["task"] == "needle") & rows["depth"].notna()]
    if grid.empty:
        raise ArtifactError(f"{run.missing('retrieval')} (it holds no needle at several depths)")
    data = pool(grid, ["variant", "length", "depth"])
    names = dict.fromkeys(data["variant"])
    figure = draw_heat_maps(
        "Needle in a haystack: exact match by context length and depth of the needle",
        f"{words.run_note(run)} · {samples_per_cell(data)}",
        {words.variant_label(name): data[data["variant"] == name] for name in names},
        "exact",
        {"base": run.plan.base_length, "trained": run.plan.trained_length},
    )
    return Drawing(figure, data)
