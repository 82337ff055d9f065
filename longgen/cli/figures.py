"""`longgen figures`: draw figures and tables from cached results, in seconds and without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

from longgen.cli.options.reporting import Figures
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


def figures(options: Figures) -> None:
    """Draw, and say what was made where, and what could not be."""
    with heat_colors(RED_BLUE if options.red_blue else RED_GREEN):
        _draw(options)


def _draw(options: Figures) -> None:
    output = options.output
    published = published_runs(options.results) if options.all_published else []
    if options.all_published and not published:
        print(f"{options.results / 'published'} holds no run yet: `longgen publish RUN --as NAME` makes one")
    elif not options.run and not published:
        raise ConfigError("no run is given: name one, such as smoke, or --all-published where there are published ones")
    forms = [form for form, asked in (("html", options.html), ("tex", options.latex)) if asked]
    tables: list[Path] = []
    runs = {name: open_run(name, options.results) for name in [*(options.run or []), *published]}
    for name, opened in runs.items():
        # what is asked of all published runs need not concern each of them; of a run by its name, it must
        parts = [part for part in options.only or [] if part not in GROUP_PARTS]
        wanted = [part for part in parts if name in (options.run or []) or part in parts_of(opened)]
        if options.only and not wanted:
            continue
        tables += _told(output / name, write_report(opened, output / name, wanted, forms))
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


def _draw_groups(runs: list[Run], named: bool, only: list[str], output: Path, forms: list[str]) -> None:
    """Draw the groups among ``runs``; of runs that were ``named``, say why there is none."""
    wanted = [part for part in only if part in GROUP_PARTS]
    if only and not wanted:
        return
    groups = find_groups(runs)
    for group in groups:
        _told(output / group.name, write_group_report(group, output / group.name, wanted, forms))
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
