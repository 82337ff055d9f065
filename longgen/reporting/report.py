"""Everything that is made from a run's results: figures, tables and the claims."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from longgen.errors import ArtifactError, ConfigError
from longgen.files import atomic_file
from longgen.reporting import FIGURE_NAMES, SEEDS, TABLES, table_maker
from longgen.reporting.claims import ledger
from longgen.reporting.claims_text import claims_markdown
from longgen.reporting.drawing import FORMATS, save_csv, save_drawing
from longgen.reporting.excerpts import with_tables
from longgen.reporting.figures import FIGURES
from longgen.reporting.latex import write_latex
from longgen.reporting.page import write_page
from longgen.reporting.results_page import results_page
from longgen.reporting.run import Run
from longgen.reporting.style import paper_style


@dataclass
class Report:
    """What was made of a run.

    Attributes:
        files: the files.
        omissions: name -> why, for what could not be made because an input is missing.
    """

    files: list[Path] = field(default_factory=list)
    omissions: dict[str, str] = field(default_factory=dict)


def write_figure(run: Run, folder: Path, name: str) -> list[Path]:
    """Draw figure ``name`` and save it with its numbers. Raises ArtifactError if an input is missing."""
    with paper_style():
        return save_drawing(FIGURES[name](run), folder, name)


def write_table(run: Run, folder: Path, name: str) -> list[Path]:
    """Write the table ``name`` of `TABLES` as CSV and Markdown. Raises ArtifactError if the run has no such results."""
    return save_table(*table_maker(name)(run), folder / name)


def write_claims(runs: Sequence[Run], folder: Path, name: str = "claims") -> list[Path]:
    """Write claims.csv and claims.md for one or several runs.

    Of runs that are no experiments, only training steps and inference at the paper's scale count.

    Raises:
        ArtifactError: an experiment's plan.json is missing.
    """
    table = ledger(runs)
    return save_table(table, claims_markdown(table), folder / name)


def write_results_page(runs: Sequence[Run], tables: Collection[Path], figures: Path, page: Path) -> None:
    """Write ``page`` on all published ``runs`` (at least one); see `results_page` for the others.

    What people say of a group of seeds is taken from ``discussion/<group>.md`` beside the page.
    """
    discussions = {path.stem: path.read_text("utf-8") for path in (page.parent / "discussion").glob("*.md")}
    _write_text(page, results_page(runs, ledger(runs), tables, figures, page, discussions))


def write_tables_in(page: Path, runs: Mapping[str, Run]) -> None:
    """Write the tables of a page anew that people write (`longgen.reporting.excerpts`). Raises as `with_tables`."""
    _write_text(page, with_tables(page.read_text("utf-8"), runs, str(page)))


_Writer = Callable[[Run, Path, str], list[Path]]


def _writers(subject: str) -> dict[str, _Writer]:
    """What makes each part of a subject, by name."""
    parts: dict[str, _Writer] = dict.fromkeys(FIGURE_NAMES[subject], write_figure)
    return parts | dict.fromkeys(TABLES[subject], write_table)


_BY_SUBJECT = {subject: _writers(subject) for subject in FIGURE_NAMES if subject != SEEDS}
PARTS = {name: writer for parts in _BY_SUBJECT.values() for name, writer in parts.items()}


# Parts that an experiment has if it asked for them, and is not missing otherwise.
_HAS_INPUTS: dict[str, Callable[[Run], bool]] = {
    "ruler_by_length": lambda run: run.has("benchmark-summary") and _has_ruler(run),
    "ruler_tasks": lambda run: _has_ruler(run),
    "ruler_tasks_table": lambda run: _has_ruler(run),
    "benchmark_summary": lambda run: run.has("benchmark-summary"),
    "perplexity": lambda run: run.has("perplexity"),
    "short_context": lambda run: run.has("short-context"),
}


def _has_ruler(run: Run) -> bool:
    return run.has("benchmark") and "ruler" in set(run.frame("benchmark")["benchmark"])


def parts_of(run: Run) -> list[str]:
    """Names of the parts that such a run is for: by what it has results of."""
    names = [name for subject, parts in _BY_SUBJECT.items() if subject in run.subjects for name in parts]
    return [name for name in names if not run.has("plan") or name not in _HAS_INPUTS or _HAS_INPUTS[name](run)]


def write_report(run: Run, folder: Path, only: Collection[str] = (), forms: Collection[str] = ()) -> Report:
    """Make all figures and tables that the run has results for.

    Args:
        run: the results.
        folder: where to write; files of a part that cannot be made (any more) are removed, so that no stale one stays.
        only: names in `PARTS`; none means `parts_of` the run.
        forms: names in `FORMS` in which tables are written too.

    Raises:
        ConfigError: a name in ``only`` is unknown.
        ArtifactError: an input of a part in ``only`` is missing, or nothing at all can be made.
        OutputError: there is no room for a file.
    """
    for name in only:
        if name not in PARTS:
            raise ConfigError(f"--only is {name!r}: allowed are {', '.join(PARTS)}")
    report = Report()
    for name in only or parts_of(run):
        try:
            report.files += PARTS[name](run, folder, name)
        except ArtifactError as error:
            if only:
                raise
            report.omissions[name] = str(error)
            remove_part(folder, name)
    for name in [] if only else set(PARTS) - set(parts_of(run)):
        remove_part(folder, name)
    if not report.files:
        raise ArtifactError(next(iter(report.omissions.values())))
    report.files += write_forms(report.files, forms)
    return report


# Beside Markdown: suffix -> what writes the file beside NAME.md.
FORMS: dict[str, Callable[[Path], Path]] = {"html": write_page, "tex": write_latex}


def write_forms(files: Sequence[Path], forms: Collection[str]) -> list[Path]:
    """The tables among ``files`` in ``forms``, names in `FORMS`; what is there in another one is written anew too."""
    tables = [path for path in files if path.suffix == ".md"]
    return [
        write(path)
        for path in tables
        for form, write in FORMS.items()
        if form in forms or path.with_suffix(f".{form}").exists()
    ]


def remove_part(folder: Path, name: str) -> None:
    """Remove the files of part ``name``, so that no stale one stays."""
    for extension in (*FORMATS, "md", *FORMS):
        (folder / f"{name}.{extension}").unlink(missing_ok=True)


def save_table(table: pd.DataFrame, text: str, place: Path) -> list[Path]:
    """Write ``place``.csv and ``place``.md, atomically; returns their paths."""
    paths = [place.with_name(f"{place.name}.{extension}") for extension in ("csv", "md")]
    save_csv(table, paths[0])
    _write_text(paths[1], text)
    return paths


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
