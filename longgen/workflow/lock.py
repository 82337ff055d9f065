"""Snakemake's lock on a folder when the run that held it was killed: who held it is noted, and what is stale goes.

Snakemake's lock says which files a run makes, and not who runs. After SIGKILL or a power cut every later run would stop
until somebody says `snakemake --unlock`. A run notes its process once it holds the lock; the next one removes the lock
if that process is gone.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # Snakemake needs it too

from longgen.errors import ArtifactError
from longgen.files import read_json, write_json

LOCKS, HOLDER = Path(".snakemake/locks"), Path(".snakemake/longgen-holder.json")


@dataclass(frozen=True)
class Holder:
    """The run that last noted itself in a folder.

    Attributes:
        host: name of its machine.
        process: its number there.
        began: when that process began, in seconds as `time.time` has them.
        jobs_here: whether its jobs are processes of that machine.
    """

    host: str
    process: int
    began: float
    jobs_here: bool

    @property
    def is_here(self) -> bool:
        """Whether it was on this machine."""
        return self.host == platform.node()

    @property
    def lives(self) -> bool:
        """Whether its process is still there; of one on this machine."""
        try:
            return bool(psutil.Process(self.process).create_time() == self.began)  # its number may have gone to another
        except psutil.NoSuchProcess:
            return False


def noted_holder() -> Holder | None:
    """Who noted itself last in the current folder; None: nobody, or half a note, as a power cut may leave it."""
    if not HOLDER.exists():
        return None
    try:
        noted = read_json(HOLDER, "snakemake")
        return Holder(str(noted["host"]), int(noted["process"]), float(noted["began"]), bool(noted["jobs_here"]))
    except (ArtifactError, KeyError, TypeError, ValueError, OSError):
        return None


def is_locked() -> bool:
    """Whether the current folder has a lock, of a run that goes on or of one that was killed."""
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def note_holder(*, jobs_here: bool) -> None:
    """Note that this process holds the lock of the current folder; for `onstart`, which runs while it is held.

    Args:
        jobs_here: whether its jobs are processes of this machine, which end with it (`longgen.orphans`).
    """
    own = psutil.Process()
    write_json(HOLDER, asdict(Holder(platform.node(), own.pid, own.create_time(), jobs_here)))


def remove_stale_lock() -> str:
    """Remove the lock of the current folder if its holder is known to be gone; name the holder if it works here.

    A lock that was made on another machine, or of which nothing was noted, stays: Snakemake says what to do. So does
    one of a run whose jobs are Slurm's, for they go on without it, and one while any other Snakemake works in this
    folder: it may not have noted yet that the lock is its own.

    Returns:
        what to tell the user: that it is removed, or that its holder works here still; empty if neither is known.
    """
    holder = noted_holder() if is_locked() else None
    if holder is None or not holder.is_here:
        return ""
    if holder.lives:
        return f"The run of process {holder.process} works in this folder, and has locked it."
    if not holder.jobs_here or _others_here():
        return ""
    shutil.rmtree(LOCKS)
    return f"The run of process {holder.process} was killed and left this folder locked: its lock is removed."


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
