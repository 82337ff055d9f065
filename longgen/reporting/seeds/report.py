"""Everything that is made of a group of seeds: figures, the table and the evidence."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from pathlib import Path

from longgen.errors import ArtifactError
from longgen.reporting import FIGURE_NAMES, SEEDS, TABLES, table_maker
from longgen.reporting.drawing import save_drawing
from longgen.reporting.report import Report, remove_part, save_table, write_forms
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.values import Values, read_values
from longgen.reporting.style import paper_style

_Writer = Callable[[Group, Values, Path, str], list[Path]]


def _write_figure(group: Group, values: Values, folder: Path, name: str) -> list[Path]:
    module = importlib.import_module(f"{__package__}.{name.removeprefix('seeds_')}")
    with paper_style():
        return save_drawing(module.draw(group, values), folder, name)


def _write_table(group: Group, values: Values, folder: Path, name: str) -> list[Path]:
    return save_table(*table_maker(name)(group, values), folder / name)


GROUP_PARTS: dict[str, _Writer] = {
    **dict.fromkeys(FIGURE_NAMES[SEEDS], _write_figure),
    **dict.fromkeys(TABLES[SEEDS], _write_table),
}


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
