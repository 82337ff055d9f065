"""Snakemake's lock on a folder when the run that held it was killed: who held it is noted, and what is stale goes.

Snakemake's lock says which files a run makes, and not who runs. After SIGKILL or a power cut every later run would stop
until somebody says `snakemake --unlock`. A run notes its process once it holds the lock; the next one removes the lock
if that process is gone.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
from pathlib import Path

import psutil  # Snakemake needs it too

from longgen.errors import ArtifactError
from longgen.files import read_json, write_json

LOCKS, HOLDER = Path(".snakemake/locks"), Path(".snakemake/longgen-holder.json")


def note_holder(*, jobs_here: bool) -> None:
    """Note that this process holds the lock of the current folder; for `onstart`, which runs while it is held.

    Args:
        jobs_here: whether its jobs are processes of this machine, which end with it (`longgen.orphans`).
    """
    own = psutil.Process()
    holder = {"host": platform.node(), "process": own.pid, "began": own.create_time(), "jobs_here": jobs_here}
    write_json(HOLDER, holder)


def remove_stale_lock() -> str:
    """Remove the lock of the current folder if its holder is known to be gone.

    A lock that was made on another machine, or of which nothing was noted, stays: Snakemake says what to do. So does
    one of a run whose jobs are Slurm's, for they go on without it, and one while any other Snakemake works in this
    folder: it may not have noted yet that the lock is its own.

    Returns:
        what to tell the user; empty if there was nothing to remove.
    """
    if not LOCKS.is_dir() or not any(LOCKS.iterdir()) or not HOLDER.exists():
        return ""
    try:
        holder = read_json(HOLDER, "snakemake")
        is_ours = holder["host"] == platform.node() and holder["jobs_here"]
        if not is_ours or _lives(holder["process"], holder["began"]) or _others_here():
            return ""
    except (ArtifactError, KeyError, TypeError):  # half a note, as a power cut may leave it, is none
        return ""
    shutil.rmtree(LOCKS)
    return f"The run of process {holder['process']} was killed and left this folder locked: its lock is removed."


def _lives(process: int, began: float) -> bool:
    try:
        return bool(psutil.Process(process).create_time() == began)  # its number may have gone to another
    except psutil.NoSuchProcess:
        return False


def _others_here() -> bool:
    """Whether another process of this machine, not one that has started this one, is a Snakemake in this folder."""
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()[:3]
            is_snakemake = "snakemake" in [Path(word).name for word in words[:2]] or words[1:] == ["-m", "snakemake"]
            if process.pid not in own and is_snakemake and Path(process.cwd()) == Path.cwd():
                return True
    return False
