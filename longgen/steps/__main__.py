"""`python -m longgen.steps CONFIG`: see `longgen.steps`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from typer.main import get_command

from longgen.cli import app
from longgen.cluster import selected_variants
from longgen.config import load_experiment
from longgen.errors import TO_BE_CONTINUED, TrainingStoppedError
from longgen.program import run_program
from longgen.results import RESULTS
from longgen.scratch import use_scratch
from longgen.steps.experiment import experiment_steps
from longgen.steps.pieces import MANIFEST, load_pieces
from longgen.steps.run import Session
from longgen.steps.step import Journal
from longgen.units import seconds_of_minutes


def run_command(words: Sequence[str]) -> None:
    """Run `longgen` with these words in this process. Raises LongGenError as it does."""
    get_command(app).main(list(words), prog_name="longgen", standalone_mode=False)


def open_session(options: argparse.Namespace) -> Session:
    """What the options of the command line ask for, with the pieces unpacked if there are any.

    Raises:
        LongGenError: as `load_experiment`, `selected_variants`, `experiment_steps` and `load_pieces`.
    """
    experiment = load_experiment(options.config)
    variants = selected_variants(experiment, options.select)
    results, artifacts = options.results / experiment.name, options.artifacts / experiment.name
    steps = experiment_steps(
        experiment,
        options.config,
        variants,
        options.setup or experiment.setup,
        results,
        artifacts,
        options.threads,
        options.discard_models,
    )
    place = artifacts / "steps.json"
    journal, pieces = Journal.open(place), options.pieces
    if pieces is not None and (pieces / MANIFEST).exists():
        roots = {"results": results, "artifacts": artifacts}
        if load_pieces(pieces, experiment.name, journal.saved, roots):
            print(f"steps: goes on from the pieces in {pieces}", file=sys.stderr, flush=True)
            journal = Journal.open(place)
    return Session(experiment.name, steps, journal, results, artifacts, pieces, run_command)


def main(words: Sequence[str] | None = None) -> int:
    """Run the steps of an experiment; 0 if all are done, 75 if there was no time for all.

    Raises:
        LongGenError: as `open_session` and `Session.run_steps`, but for a training that was stopped, which is told.
    """
    started = time.monotonic()
    parser = argparse.ArgumentParser("python -m longgen.steps", description="All steps of an experiment but figures.")
    parser.add_argument("config", type=Path, help="configuration file, such as config/mini.yaml")
    parser.add_argument("--select", default="default", help="variants: default, all, or names with commas")
    parser.add_argument("--setup", help="set-up that trains (default: the configuration's own choice)")
    parser.add_argument("--minutes", type=float, default=9, help="time to spend; a second call goes on (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the runs (%(default)s)")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="of everything else (%(default)s)")
    parser.add_argument("--pieces", type=Path, help="folder of small files from which another machine goes on")
    parser.add_argument("--discard-models", action="store_true", help="delete a model when it is evaluated")
    parser.add_argument("--threads", type=int, default=0, help="processors; 0 leaves the choice to PyTorch")
    options = parser.parse_args(words)
    try:
        seconds = seconds_of_minutes(options.minutes)
        use_scratch()
        session = open_session(options)
        if session.run_steps(lambda: seconds - (time.monotonic() - started)):
            print(f"steps: all done; results: {session.results}", file=sys.stderr)
            return 0
        print(f"steps: {len(session.left)} are left for the next call, which goes on", file=sys.stderr)
        return TO_BE_CONTINUED
    except TrainingStoppedError as stop:
        print(f"steps: {stop}", file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    run_program(main, "longgen.steps")
