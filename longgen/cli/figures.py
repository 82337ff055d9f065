"""`longgen figures`: draw figures and tables from cached results, in seconds and without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

from longgen.cli.options.reporting import FiguresOptions
from longgen.errors import ConfigError
from longgen.reporting.report import (
    Report,
    parts_of,
    write_claims,
    write_forms,
    write_report,
    write_results_page,
    write_tables_in,
)
from longgen.reporting.run import Run, open_run, published_runs
from longgen.reporting.seeds.groups import find_groups, what_differs
from longgen.reporting.seeds.report import GROUP_PARTS, write_group_report
from longgen.reporting.style import RED_BLUE, RED_GREEN, heat_colors


def figures(options: FiguresOptions) -> None:
    """Draw, and say what was made where, and what could not be."""
    with heat_colors(RED_BLUE if options.red_blue else RED_GREEN):
        _draw(options)


def _draw(options: FiguresOptions) -> None:
    output = options.output
    published = published_runs(options.results) if options.all_published else []
    if options.all_published and not published:
        print(f"{options.results / 'published'} holds no run yet: `longgen publish RUN --as NAME` makes one")
    elif not options.run and not published:
        raise ConfigError("no run is given: name one, such as smoke, or --all-published where there are published ones")
    forms = [form for form, wanted in (("html", options.html), ("tex", options.latex)) if wanted]
    tables: list[Path] = []
    runs = {name: open_run(name, options.results) for name in [*(options.run or []), *published]}
    for name, run in runs.items():
        # a part that --only names must exist in a run that is named as well, and need not in each published one
        run_parts = [part for part in options.only or [] if part not in GROUP_PARTS]
        parts = [part for part in run_parts if name in (options.run or []) or part in parts_of(run)]
        if options.only and not parts:
            continue
        tables += _print_report(output / name, write_report(run, output / name, parts, forms))
    _draw_groups(list(runs.values()), bool(options.run), options.only or [], output, forms)
    if published and (not options.only or "claims" in options.only):
        written = write_claims([runs[name] for name in published], output / "published")
        write_forms(written, forms)
        print(f"{output / 'published'}: claims of all published runs")
    if published and options.page:
        write_results_page([runs[name] for name in published], tables, output, options.page)
        print(options.page)
    for own in options.tables_in or []:
        write_tables_in(own, {name: runs[name] for name in published})
        print(own)


def _draw_groups(runs: list[Run], by_name: bool, only: list[str], output: Path, forms: list[str]) -> None:
    """Draw the groups among ``runs``; where the user gave runs ``by_name``, say why there is none."""
    parts = [part for part in only if part in GROUP_PARTS]
    if only and not parts:
        return
    groups = find_groups(runs)
    for group in groups:
        _print_report(output / group.name, write_group_report(group, output / group.name, parts, forms))
    experiments = [run for run in runs if run.is_experiment]
    if groups or not by_name or (len(experiments) < 2 and not parts):
        return
    why = what_differs(*experiments[:2]) if len(experiments) > 1 else "one run is no group"
    if parts:
        raise ConfigError(f"--only is {', '.join(parts)}: allowed for runs that differ in name and seed alone; {why}")
    print(f"  not drawn together: {why}", file=sys.stderr)


def _print_report(folder: Path, report: Report) -> list[Path]:
    """Print how many files ``folder`` got, and what is missing and why; returns the paths of its tables."""
    print(f"{folder}: {len(report.files)} files")
    for part, why in report.omissions.items():
        print(f"  without {part}: {why}", file=sys.stderr)
    return [path for path in report.files if path.suffix == ".md"]
