"""`longgen figures`: draw figures and tables from cached results, in seconds and without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longgen.errors import ConfigError
from longgen.reporting import need_report_packages

if TYPE_CHECKING:
    from longgen.reporting.report import Report
    from longgen.reporting.run import Run

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
    tables_in: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --all-published: a page of your own in Markdown whose tables, between `<!-- ablation of RUN: "
            "COLUMNS -->` and `<!-- end -->`, are written anew; repeat for several.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Tables as web pages too.")] = False,
    results: Results = Path("results"),
    output: Output = FIGURES_FOLDER,
) -> None:
    """Draw the figures of runs, with the numbers behind each as CSV, the ablation table and the claims ledger.

    Without --only, what a run has no results for is left out, and named. Runs that differ in name and seed alone are
    also drawn together, into NAME-seeds: their means and the evidence for the paper's claims.
    """
    if page and (only or not all_published):
        raise ConfigError(f"--page is {page}: allowed is it with --all-published and without --only")
    if tables_in and not all_published:
        raise ConfigError(f"--tables-in is {tables_in[0]}: allowed is it with --all-published")
    need_report_packages()
    from longgen.reporting.report import parts_of, write_claims, write_report, write_results_page, write_tables_in
    from longgen.reporting.run import open_run, published_runs
    from longgen.reporting.seeds.report import GROUP_PARTS

    published = published_runs(results) if all_published else []
    if all_published and not published:
        print(f"{results / 'published'} holds no run yet: `longgen publish RUN --as NAME` makes one")
    elif not run and not published:
        raise ConfigError("no run is given: name one, such as smoke, or --all-published where there are published ones")
    tables: list[Path] = []
    runs = {name: open_run(name, results) for name in [*(run or []), *published]}
    for name, opened in runs.items():
        # what is asked of all published runs need not concern each of them; of a run by its name, it must
        parts = [part for part in only or [] if part not in GROUP_PARTS]
        wanted = [part for part in parts if name in (run or []) or part in parts_of(opened)]
        if only and not wanted:
            continue
        tables += _told(output / name, write_report(opened, output / name, wanted, pages=html))
    _draw_groups(list(runs.values()), bool(run), only or [], output, html)
    if published and (not only or "claims" in only):
        write_claims([runs[name] for name in published], output / "published")
        print(f"{output / 'published'}: claims of all published runs")
    if published and page:
        write_results_page([runs[name] for name in published], tables, output, page)
        print(page)
    for own in tables_in or []:
        write_tables_in(own, {name: runs[name] for name in published})
        print(own)


def _draw_groups(runs: list[Run], named: bool, only: list[str], output: Path, html: bool) -> None:
    """Draw the groups among ``runs``; of runs that were ``named``, say why there is none."""
    from longgen.reporting.seeds.groups import find_groups, what_differs
    from longgen.reporting.seeds.report import GROUP_PARTS, write_group_report

    wanted = [part for part in only if part in GROUP_PARTS]
    if only and not wanted:
        return
    groups = find_groups(runs)
    for group in groups:
        _told(output / group.name, write_group_report(group, output / group.name, wanted, pages=html))
    experiments = [run for run in runs if run.is_experiment]
    if groups or not named or (len(experiments) < 2 and not wanted):
        return
    why = what_differs(*experiments[:2]) if len(experiments) > 1 else "one run is no group"
    if wanted:
        raise ConfigError(f"--only is {', '.join(wanted)}: allowed for runs that differ in name and seed alone; {why}")
    print(f"  not drawn together: {why}", file=sys.stderr)


def _told(folder: Path, report: Report) -> list[Path]:
    """Say what was made in ``folder``; the tables among it."""
    print(f"{folder}: {len(report.written)} files")
    for part, why in report.skipped.items():
        print(f"  without {part}: {why}", file=sys.stderr)
    return [path for path in report.written if path.suffix == ".md"]
