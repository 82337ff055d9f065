"""`longgen publish`: promote a run's results to published ones, which git tracks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.figures import FIGURES_FOLDER, Output, Results
from longgen.reporting import need_report_packages


def publish(
    run: Annotated[str, typer.Argument(help="Run to publish: NAME for results/NAME.", show_default=False)],
    name: Annotated[str, typer.Option("--as", help="Name under results/published.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace what was published under that name.")] = False,
    results: Results = Path("results"),
    output: Output = FIGURES_FOLDER,
) -> None:
    """Copy results/RUN to results/published/NAME in one step, then draw its figures.

    Where each file comes from is recorded beside them; uncommitted changes, several commits or several devices are
    allowed, but warned of.
    """
    need_report_packages()
    from longgen.cli.figures import figures
    from longgen.reporting.publishing import publish_run
    from longgen.reporting.report import write_claims
    from longgen.reporting.run import open_run, published_runs

    for warning in publish_run(run, name, results, force):
        print(f"longgen: warning: {warning}", file=sys.stderr)
    print(f"{results / 'published' / name}: published")
    figures([f"published/{name}"], results=results, output=output)
    write_claims([open_run(published, results) for published in published_runs(results)], output / "published")
