"""Options of the verbs that draw, compare and publish results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.parameters import OUTPUT_FILE, OneOf, Options
from longgen.cli.options.shared import FIGURES, RESULTS, RUN_NAMES, FiguresFolderOption, ResultsOption
from longgen.errors import ConfigError
from longgen.reporting.families import COMPARISONS


@dataclass(frozen=True, kw_only=True)
class FiguresOptions(Options):
    """Without --only, what a run has no results for is left out, and named. Runs that differ in name and seed alone are
    also drawn together, into NAME-seeds: their means and the evidence for the paper's claims.
    """

    run: Annotated[list[str] | None, typer.Argument(help=f"Runs: {RUN_NAMES}", show_default=False)] = None
    only: Annotated[
        list[str] | None, typer.Option(help="Figure or table to make; repeat for several.", show_default="all")
    ] = None
    all_published: Annotated[
        bool, typer.Option("--all-published", help="All published runs, and one claims ledger of them together.")
    ] = False
    page: Annotated[
        Path | None,
        typer.Option(help="With --all-published: also a page in Markdown on all of them together."),
        OUTPUT_FILE,
    ] = None
    tables_in: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --all-published: a page of your own in Markdown whose tables, between `<!-- ablation of RUN: "
            "COLUMNS -->` and `<!-- end -->`, are written anew; repeat for several.",
            show_default=False,
        ),
    ] = None
    html: Annotated[bool, typer.Option("--html", help="Tables as web pages too.")] = False
    latex: Annotated[bool, typer.Option("--latex", help="Tables as LaTeX too, with booktabs: NAME.tex.")] = False
    red_blue: Annotated[
        bool,
        typer.Option("--red-blue", help="Heat maps in red and blue, for readers to whom red and green look alike."),
    ] = False
    results: ResultsOption = RESULTS
    output: FiguresFolderOption = FIGURES

    def __post_init__(self) -> None:
        if self.page and (self.only or not self.all_published):
            raise ConfigError(f"--page is {self.page}: allowed is it with --all-published and without --only")
        if self.tables_in and not self.all_published:
            raise ConfigError(f"--tables-in is {self.tables_in[0]}: allowed is it with --all-published")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """Two runs stand side by side, with their difference; of more, a table each.
    Beside the trained variants stands the full one with its KV cache reduced at inference, where that was evaluated.
    All values are measured; what was not measured is empty.
    """

    run: Annotated[list[str], typer.Argument(help=f"Runs: {RUN_NAMES}")]
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMPARISON",
            help="Only what an ablation sets side by side; repeat for several tables. KV reductions at inference are "
            "among the baselines. One of",
            show_default="all rows",
        ),
        OneOf(tuple(COMPARISONS)),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of rows instead.")] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead.")] = False
    results: ResultsOption = RESULTS

    def __post_init__(self) -> None:
        if self.as_json and self.as_csv:
            raise ConfigError("--json and --csv are given: allowed is one of them")


@dataclass(frozen=True, kw_only=True)
class ProfileCompareOptions(Options):
    """Only a difference beyond both 95 % intervals counts as one; what is worse in B comes first.
    All values are measured.
    """

    a: Annotated[str, typer.Argument(help=f"The earlier run: {RUN_NAMES}")]
    b: Annotated[str, typer.Argument(help="The run to judge.")]
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of tables instead.")] = False
    every: Annotated[bool, typer.Option("--all", help="Also print the rows without a difference.")] = False
    results: ResultsOption = RESULTS


@dataclass(frozen=True, kw_only=True)
class PublishOptions(Options):
    """Where each file comes from is recorded beside them; uncommitted changes, several commits or several devices are
    allowed, but warned of.
    """

    run: Annotated[str, typer.Argument(help="Run to publish: NAME for results/NAME.", show_default=False)]
    name: Annotated[str, typer.Option("--as", help="Name under results/published.", show_default=False)]
    force: Annotated[bool, typer.Option("--force", help="Replace what was published under that name.")] = False
    results: ResultsOption = RESULTS
    output: FiguresFolderOption = FIGURES
