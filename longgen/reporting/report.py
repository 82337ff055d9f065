"""Everything that is made from a run's results: figures, tables and the claims."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from longgen.errors import ArtifactError, ConfigError
from longgen.files import atomic_file
from longgen.reporting import (
    BENCHMARK_FIGURE_NAMES,
    BENCHMARK_TABLE_NAMES,
    FIGURE_NAMES,
    INFERENCE_FIGURE_NAMES,
    KERNEL_FIGURE_NAMES,
    PACKING_FIGURE_NAMES,
    STEP_FIGURE_NAMES,
)
from longgen.reporting.ablation import ablation_markdown, ablation_table
from longgen.reporting.attention_speed import attention_speed_markdown
from longgen.reporting.benchmark_tables import BENCHMARK_TABLES
from longgen.reporting.claims import ledger
from longgen.reporting.claims_text import claims_markdown
from longgen.reporting.contract import BENCHMARKS, EXPERIMENT, INFERENCE, KERNELS, PACKING, REDUCTIONS, STEPS
from longgen.reporting.drawing import FORMATS, save_csv, save_drawing
from longgen.reporting.figures import FIGURES
from longgen.reporting.inference_speed import inference_speed_markdown
from longgen.reporting.kernel_table import kernel_markdown, kernel_table
from longgen.reporting.kv_reductions import kv_reductions_markdown, kv_reductions_table
from longgen.reporting.packing_table import packing_markdown, packing_table
from longgen.reporting.page import write_page
from longgen.reporting.results_page import results_page
from longgen.reporting.run import Run
from longgen.reporting.style import paper_style
from longgen.reporting.training_speed import training_speed_markdown


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
    """Write claims.csv and claims.md for one or several runs.

    Of runs that are no experiments, only training steps and inference at the paper's scale count.

    Raises:
        ArtifactError: an experiment's plan.json is missing.
    """
    table = ledger(runs)
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", claims_markdown(table))
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_results_page(runs: Sequence[Run], tables: Collection[Path], figures: Path, page: Path) -> None:
    """Write ``page`` on all published ``runs`` (at least one); see `results_page` for the others."""
    _write_text(page, results_page(runs, ledger(runs), tables, figures, page))


def write_kv_reductions(run: Run, folder: Path, name: str = "kv_reductions") -> list[Path]:
    """Write kv_reductions.csv and kv_reductions.md. Raises ArtifactError if no reduction was evaluated."""
    table = kv_reductions_table(run)
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", kv_reductions_markdown(run, table))
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_benchmark_table(run: Run, folder: Path, name: str) -> list[Path]:
    """Write the table ``name`` of `BENCHMARK_TABLES`. Raises ArtifactError if the run has no such results."""
    table, text = BENCHMARK_TABLES[name](run)
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", text)
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_kernel_table(run: Run, folder: Path, name: str = "kernel_table") -> list[Path]:
    """Write kernel_table.csv and kernel_table.md. Raises ArtifactError if no kernel was measured."""
    table = kernel_table(run)
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", kernel_markdown(run, table))
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_attention_speed(run: Run, folder: Path, name: str = "attention_speed") -> list[Path]:
    """Write attention_speed.csv and attention_speed.md. Raises ArtifactError if nothing of it was measured."""
    text = attention_speed_markdown(run)
    save_csv(run.frame("attention-speed"), folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", text)
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_training_speed(run: Run, folder: Path, name: str = "training_speed") -> list[Path]:
    """Write training_speed.csv and training_speed.md. Raises ArtifactError if no step of training was timed."""
    text = training_speed_markdown(run)
    save_csv(run.frame("training-speed"), folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", text)
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_inference_speed(run: Run, folder: Path, name: str = "inference_speed") -> list[Path]:
    """Write inference_speed.csv and inference_speed.md. Raises ArtifactError if no prefill or decoding was timed."""
    text = inference_speed_markdown(run)
    save_csv(run.frame("inference-speed"), folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", text)
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def write_packing_table(run: Run, folder: Path, name: str = "packing_table") -> list[Path]:
    """Write packing_table.csv and packing_table.md. Raises ArtifactError if nothing was packed."""
    table = packing_table(run)
    save_csv(table, folder / f"{name}.csv")
    _write_text(folder / f"{name}.md", packing_markdown(run, table))
    return [folder / f"{name}.csv", folder / f"{name}.md"]


def _write_own_claims(run: Run, folder: Path, name: str) -> list[Path]:
    if not run.is_experiment:
        raise run.missing("plan")
    return write_claims([run], folder, name)


_Writer = Callable[[Run, Path, str], list[Path]]
_BY_SUBJECT: dict[str, dict[str, _Writer]] = {
    EXPERIMENT: {
        **dict.fromkeys(FIGURE_NAMES, write_figure),
        "ablation": write_ablation,
        "claims": _write_own_claims,
    },
    REDUCTIONS: {"kv_reductions": write_kv_reductions},
    BENCHMARKS: {
        **dict.fromkeys(BENCHMARK_FIGURE_NAMES, write_figure),
        **dict.fromkeys(BENCHMARK_TABLE_NAMES, write_benchmark_table),
    },
    KERNELS: {
        **dict.fromkeys(KERNEL_FIGURE_NAMES, write_figure),
        "kernel_table": write_kernel_table,
        "attention_speed": write_attention_speed,
    },
    STEPS: {
        **dict.fromkeys(STEP_FIGURE_NAMES, write_figure),
        "training_speed": write_training_speed,
    },
    INFERENCE: {
        **dict.fromkeys(INFERENCE_FIGURE_NAMES, write_figure),
        "inference_speed": write_inference_speed,
    },
    PACKING: {
        **dict.fromkeys(PACKING_FIGURE_NAMES, write_figure),
        "packing_table": write_packing_table,
    },
}
PARTS = {name: writer for parts in _BY_SUBJECT.values() for name, writer in parts.items()}


def parts_of(run: Run) -> list[str]:
    """Names of the parts that such a run is for: by what it has results of."""
    return [name for subject, parts in _BY_SUBJECT.items() if subject in run.subjects for name in parts]


def write_report(run: Run, folder: Path, only: Collection[str] = (), pages: bool = False) -> Report:
    """Make all figures and tables that the run has results for.

    Args:
        run: the results.
        folder: where to write; files of a part that cannot be made (any more) are removed, so that no stale one stays.
        only: names in `PARTS`; none means `parts_of` the run.
        pages: write tables as HTML too; where there is such a page, it is written anew in any case.

    Raises:
        ConfigError: a name in ``only`` is unknown.
        ArtifactError: an input of a part in ``only`` is missing, or nothing at all can be made.
    """
    for name in only:
        if name not in PARTS:
            raise ConfigError(f"--only is {name!r}: allowed are {', '.join(PARTS)}")
    report = Report()
    for name in only or parts_of(run):
        try:
            report.written += PARTS[name](run, folder, name)
        except ArtifactError as error:
            if only:
                raise
            report.skipped[name] = str(error)
            _remove(folder, name)
    for name in [] if only else set(PARTS) - set(parts_of(run)):
        _remove(folder, name)
    if not report.written:
        raise ArtifactError(next(iter(report.skipped.values())))
    tables = [path for path in report.written if path.suffix == ".md"]
    report.written += [write_page(path) for path in tables if pages or path.with_suffix(".html").exists()]
    return report


def _remove(folder: Path, name: str) -> None:
    for extension in (*FORMATS, "md", "html"):
        (folder / f"{name}.{extension}").unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
