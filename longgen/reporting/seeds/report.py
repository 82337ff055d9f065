"""Everything that is made of a group of seeds: figures, the table and the evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from longgen.errors import ArtifactError
from longgen.reporting import FIGURE_NAMES, SEEDS, TABLE_NAMES
from longgen.reporting.drawing import Drawing, save_drawing
from longgen.reporting.report import Report, remove_part, save_table, write_forms
from longgen.reporting.seeds.by_length import draw_by_length
from longgen.reporting.seeds.evidence import evidence_table
from longgen.reporting.seeds.evidence_text import evidence_markdown
from longgen.reporting.seeds.figures import draw_ablation, draw_knee
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.table import seeds_markdown, seeds_table
from longgen.reporting.seeds.values import Values, read_values
from longgen.reporting.style import paper_style

_Writer = Callable[[Group, Values, Path, str], list[Path]]


def _figure(draw: Callable[[Group, Values], Drawing]) -> _Writer:
    def write(group: Group, values: Values, folder: Path, name: str) -> list[Path]:
        with paper_style():
            return save_drawing(draw(group, values), folder, name)

    return write


def _write_seeds(group: Group, values: Values, folder: Path, name: str) -> list[Path]:
    table = seeds_table(group, values)
    return save_table(table, seeds_markdown(group, table, values), folder / name)


def _write_evidence(group: Group, values: Values, folder: Path, name: str) -> list[Path]:
    table = evidence_table(group, values)
    return save_table(table, evidence_markdown(group, table), folder / name)


_FIGURES = (draw_ablation, draw_knee, draw_by_length)
_WRITERS: tuple[_Writer, ...] = (*map(_figure, _FIGURES), _write_seeds, _write_evidence)
GROUP_PARTS = dict(zip((*FIGURE_NAMES[SEEDS], *TABLE_NAMES[SEEDS]), _WRITERS, strict=True))


def write_group_report(group: Group, folder: Path, only: Collection[str] = (), forms: Collection[str] = ()) -> Report:
    """Make the figures and tables of a group.

    Args:
        group: of `longgen.reporting.seeds.groups.find_groups`.
        folder: where to write; files of a part that cannot be made (any more) are removed.
        only: names in `GROUP_PARTS`; none means all.
        forms: names in `longgen.reporting.report.FORMS` in which tables are written too.

    Raises:
        ArtifactError: a results file cannot be used, or an input of a part in ``only`` is missing.
    """
    values, report = read_values(group), Report()
    for name in only or GROUP_PARTS:
        try:
            report.files += GROUP_PARTS[name](group, values, folder, name)
        except ArtifactError as error:
            if only:
                raise
            report.omissions[name] = str(error)
            remove_part(folder, name)
    report.files += write_forms(report.files, forms)
    return report
