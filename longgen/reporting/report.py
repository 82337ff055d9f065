"""Everything that is made from a run's results: figures, ablation table, claims ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from longgen.errors import ArtifactError, ConfigError
from longgen.files import atomic_file
from longgen.reporting.ablation import ablation_markdown, ablation_table
from longgen.reporting.claims import ledger
from longgen.reporting.claims_text import claims_markdown
from longgen.reporting.drawing import FORMATS, save_csv, save_drawing
from longgen.reporting.figures import FIGURES
from longgen.reporting.run import Run
from longgen.reporting.style import paper_style


@dataclass
class Report:
    """What was made of a run.

    Attributes:
        written: the files.
        skipped: name -> why, for what could not be made because an input is missing.
    """

    written: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def write_figure(run: Run, folder: Path, name: str) -> list[Path]:
    """Draw figure ``name`` and save it with its numbers. Raises ArtifactError if an input is missing."""
    with paper_style():
        return save_drawing(FIGURES[name](run), folder, name)


def write_ablation(run: Run, folder: Path, name: str = "ablation") -> list[Path]:
    """Write ablation.csv and ablation.md. Raises ArtifactError if plan.json is missing or nothing was measured."""
    table = ablation_table(run)
    if table.empty:
        raise run.missing("retrieval")
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", ablation_markdown(run, table))
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_claims(runs: Sequence[Run], folder: Path, name: str = "claims") -> list[Path]:
    """Write claims.csv and claims.md for one or several runs. Raises ArtifactError if a plan.json is missing."""
    table = ledger(runs)
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", claims_markdown(table))
    return [folder / f"{name}.csv", folder / f"{name}.md"]


_Writer = Callable[[Run, Path, str], list[Path]]
_TABLES: dict[str, _Writer] = {
    "ablation": write_ablation,
    "claims": lambda run, folder, name: write_claims([run], folder, name),
}
PARTS: dict[str, _Writer] = {**dict.fromkeys(FIGURES, write_figure), **_TABLES}


def write_report(run: Run, folder: Path, only: Collection[str] = ()) -> Report:
    """Make all figures and tables that the run has results for.

    Args:
        run: the results.
        folder: where to write; files of a part that cannot be made (any more) are removed, so that no stale one stays.
        only: names in `PARTS`; none means all.

    Raises:
        ConfigError: a name in ``only`` is unknown.
        ArtifactError: an input of a part in ``only`` is missing, or nothing at all can be made.
    """
    for name in only:
        if name not in PARTS:
            raise ConfigError(f"--only is {name!r}: allowed are {', '.join(PARTS)}")
    report = Report()
    for name in only or PARTS:
        try:
            report.written += PARTS[name](run, folder, name)
        except ArtifactError as error:
            if only:
                raise
            report.skipped[name] = str(error)
            for extension in (*FORMATS, "md"):
                (folder / f"{name}.{extension}").unlink(missing_ok=True)
    if not report.written:
        raise ArtifactError(next(iter(report.skipped.values())))
    return report


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
