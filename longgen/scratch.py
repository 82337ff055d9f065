"""Storage of the machine itself, where jobs of a cluster have some: for copies of training rows, and temporary files.

The environment variable LONGGEN_SCRATCH names a folder, such as ``/scratch/$SLURM_JOB_ID``: variables in it are those
of the machine that a job runs on. Without it everything stays where it is, as it does where a variable is not set: on
the login node, say, there is no job. What must outlive a job is never there.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from longgen.errors import ConfigError
from longgen.files import atomic_directory
from longgen.provenance import fingerprint

SCRATCH = "LONGGEN_SCRATCH"
# Compiled kernels: on a shared file system many processes that write to one folder get in each other's way.
CACHES = {"TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}


def scratch_folder() -> Path | None:
    """The machine's own folder, made if need be; None if there is none. Raises ConfigError if it cannot be made."""
    setting = os.environ.get(SCRATCH)
    if not setting or "$" in os.path.expandvars(setting):
        return None
    path = Path(os.path.expandvars(setting)).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{SCRATCH} is {setting!r}: allowed is a folder that can be written to ({error})") from None
    return path


def use_scratch() -> None:
    """Let this process, and those that it starts, write temporary files and compiled kernels there."""
    scratch = scratch_folder()
    if scratch is None:
        return
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(scratch / folder))
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)


def local_copy(folder: Path) -> Path:
    """``folder``, or a copy of it on this machine, which the first process that asks makes for all.

    A copy is that of the same files, by size and time of change. Where there is no room for one, a line on standard
    error says so, and ``folder`` is read where it is.
    """
    scratch = scratch_folder()
    if scratch is None or not folder.is_dir():
        return folder
    stats = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    files = [(path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()]
    copy = scratch / "copies" / f"{folder.name}-{fingerprint([str(folder.resolve()), files])[:16]}"
    copy.parent.mkdir(exist_ok=True)
    with FileLock(f"{copy}.lock"):
        if copy.exists():
            return copy
        size, free = sum(stat.st_size for stat in stats.values()), shutil.disk_usage(scratch).free
        if size > free:
            room = f"{size / 1e9:.1f} GB of {folder}, and {scratch} has {free / 1e9:.1f} GB left"
            print(f"{SCRATCH}: no room for {room}: it is read where it is", file=sys.stderr)
            return folder
        with atomic_directory(copy) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
    return copy
