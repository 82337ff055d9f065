"""`longgen publish`: promote a run's results to published ones, which git tracks."""

from __future__ import annotations

import sys

from longgen.cli.figures import figures
from longgen.cli.options.reporting import FiguresOptions, PublishOptions
from longgen.reporting.publishing import publish_run
from longgen.reporting.report import write_claims
from longgen.reporting.run import open_run, published_runs


def publish(options: PublishOptions) -> None:
    """Publish the run, with its warnings, and draw it."""
    results, output = options.results, options.output
    for warning in publish_run(options.run, options.name, results, options.force):
        print(f"longgen: warning: {warning}", file=sys.stderr)
    print(f"{results / 'published' / options.name}: published")
    figures(FiguresOptions(run=[f"published/{options.name}"], results=results, output=output))
    write_claims([open_run(name, results) for name in published_runs(results)], output / "published")
