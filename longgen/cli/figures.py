"""`longgen figures`: draw figures and tables from cached results, in seconds and without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from longgen.errors import ConfigError
from longgen.reporting import need_report_packages

Results = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Output = Annotated[Path, typer.Option(help="Folder for the figures of all runs.")]
FIGURES_FOLDER = Path("paper_figures")


def figures(
    run: Annotated[
        list[str] | None, typer.Argument(help="Runs: NAME for results/NAME, or published/NAME.", show_default=False)
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Figure or table to make; repeat for several.", show_default="all")
    ] = None,
    all_published: Annotated[
        bool, typer.Option("--all-published", help="All published runs, and one claims ledger of them together.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="With --all-published: also a page in Markdown on all of them together.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Tables as web pages too.")] = False,
    results: Results = Path("results"),
    output: Output = FIGURES_FOLDER,
) -> None:
    """Draw the figures of runs, with the numbers behind each as CSV, the ablation table and the claims ledger.

    Without --only, what a run has no results for is left out, and named.
    """
    if page and (only or not all_published):
        raise ConfigError(f"--page is {page}: allowed is it with --all-published and without --only")
    need_report_packages()
    from longgen.reporting.report import parts_of, write_claims, write_report, write_results_page
    from longgen.reporting.run import open_run, published_runs

    published = published_runs(results) if all_published else []
    if all_published and not published:
        print(f"{results / 'published'} holds no run yet: `longgen publish RUN --as NAME` makes one")
    elif not run and not published:
        raise ConfigError("no run is given: name one, such as smoke, or --all-published where there are published ones")
    tables: list[Path] = []
    runs = {name: open_run(name, results) for name in [*(run or []), *published]}
    for name, opened in runs.items():
        # what is asked of all published runs need not concern each of them; of a run by its name, it must
        wanted = [part for part in only or [] if name in (run or []) or part in parts_of(opened)]
        if only and not wanted:
            continue
        report = write_report(opened, output / name, wanted, pages=html)
        tables += [path for path in report.written if path.suffix == ".md"]
        print(f"{output / name}: {len(report.written)} files")
        for part, why in report.skipped.items():
            print(f"  without {part}: {why}", file=sys.stderr)
    if published and (not only or "claims" in only):
        write_claims([runs[name] for name in published], output / "published")
        print(f"{output / 'published'}: claims of all published runs")
    if published and page:
        write_results_page([runs[name] for name in published], tables, output, page)
        print(page)
