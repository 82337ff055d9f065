"""Jobs that Snakemake plans for configurations of this repository, asked once in a process."""

import contextlib
import functools
from pathlib import Path

from longgen.workflow import Job, workflow_jobs

ROOT = Path(__file__).parents[1]


@functools.cache
def planned_jobs(config: str, select: str = "default", setup: str | None = None) -> list[Job]:
    """All jobs of a configuration, such as ``config/smoke.yaml``."""
    with contextlib.chdir(ROOT):
        return workflow_jobs(Path(config), select, setup)
