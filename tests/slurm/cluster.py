"""A throw-away Slurm for tests: two nodes with GPUs that are none, all on loopback, below one temporary folder.

No systemd, cgroups or database. Its daemons run in the foreground as children of the tests and die with them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.waiting import PATIENCE, wait_until

# The job step of the Slurm plugin drops SLURM_CONF from its environment: the configuration must be where Slurm looks.
SITE = Path("/etc/slurm")
MARK = "# throw-away Slurm of LongGen's tests\n"
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where daemons are
PARTITIONS = ("cpu", "gpu", "urgent")  # the first is the default; jobs of the last take the place of others
FEATURE = "fake"  # of all nodes

CONFIGURATION = """\
ClusterName=longgen
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# and a requeued job begins when its credentials of before have expired, not only after two minutes
AuthInfo=socket={root}/munge.socket,cred_expire=10
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# no cgroups to hold a job to its memory: look every second, and end what has more
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
# the least loaded node first: jobs come to both
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory,CR_LLN
DefMemPerCPU=500
AccountingStorageType=accounting_storage/none
# finished jobs stay on record longer than the tests take
MinJobAge=3600
# a busy machine answers late
MessageTimeout=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
KillWait=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
GresTypes=gpu
"""


@dataclass
class Slurm:
    """A running one; ``daemons`` are its processes."""

    root: Path
    nodes: tuple[str, ...]
    daemons: list[subprocess.Popen] = field(default_factory=list)

    def jobs(self) -> dict[str, dict[str, str]]:
        """What Slurm holds of every job so far: id -> the fields of `scontrol show job`."""
        shown = call("scontrol", "show", "job", "--oneliner")
        jobs = [dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in shown.splitlines()]
        return {job["JobId"]: job for job in jobs if "JobId" in job}


def call(*words: str) -> str:
    """Standard output of a Slurm command, which must not fail."""
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


def why_not() -> str | None:
    """Why no Slurm can be started on this machine, or None."""
    missing = [name for name in COMMANDS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "a throw-away Slurm needs root"
    if "SLURM_CONF" in os.environ:
        return f"SLURM_CONF is {os.environ['SLURM_CONF']}: there is another Slurm"
    others = [SITE / name for name in ("slurm.conf", "gres.conf", "cgroup.conf") if not _ours(SITE / name)]
    return f"{others[0]} belongs to another Slurm" if others else None


def _ours(path: Path) -> bool:
    """Whether a file of /etc/slurm is not there, or a link that a run of these tests made."""
    return not path.exists() or (path.is_symlink() and path.read_text().startswith(MARK))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _configure(root: Path, nodes: tuple[str, ...], gpus: int) -> None:
    """Write slurm.conf and gres.conf; more CPUs and memory than this machine has are no matter to Slurm."""
    host = socket.gethostname().partition(".")[0]
    control, *ports = _free_ports(1 + len(nodes))
    for gpu in range(gpus):  # a device of its own each, with the numbers of /dev/null
        os.mknod(root / f"gpu{gpu}", 0o20666, os.makedev(1, 3))
    lines = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=64000"
        f" Gres=gpu:{gpus} Feature={FEATURE}"
        for name, port in zip(nodes, ports, strict=True)
    ]
    lines += [
        f"PartitionName={name} Nodes={','.join(nodes)} Default={'YES' if name == PARTITIONS[0] else 'NO'} GraceTime="
        f"{PATIENCE:.0f} PriorityTier={2 if name == 'urgent' else 1}"
        for name in PARTITIONS
    ]
    text = MARK + CONFIGURATION.format(host=host, control=control, root=root) + "\n".join(lines) + "\n"
    (root / "slurm.conf").write_text(text)
    devices = f"NodeName={','.join(nodes)} Name=gpu File={root}/gpu[0-{gpus - 1}]\n"
    (root / "gres.conf").write_text(MARK + "AutoDetect=off\n" + devices)


def _die_with_parent() -> None:
    """For a child, before it becomes its program: SIGTERM when the process of the tests ends, however that happens."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _daemon(slurm: Slurm, *words: str) -> Iterator[None]:
    with (slurm.root / "daemons.log").open("ab") as log:
        process = subprocess.Popen(
            [shutil.which(words[0], path=PATH) or words[0], *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,
        )
    slurm.daemons.append(process)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _linked(root: Path) -> Iterator[None]:
    """The configuration, where Slurm's commands look for it; its links are gone afterwards. Waits for another run's."""
    SITE.mkdir(exist_ok=True)
    lock = os.open(SITE, os.O_RDONLY)  # let go when this process ends, however that happens
    fcntl.flock(lock, fcntl.LOCK_EX)
    links = {SITE / name: root / name for name in ("slurm.conf", "gres.conf")}
    for link, target in links.items():
        link.unlink(missing_ok=True)  # of a run that was killed: see why_not
        link.symlink_to(target)
    try:
        yield
    finally:
        for link, target in links.items():
            if link.is_symlink() and link.readlink() == target:
                link.unlink()
        os.close(lock)


@contextmanager
def _no_jobs_left() -> Iterator[None]:
    """End the jobs first: a daemon does not take them with it."""
    try:
        yield
    finally:
        with suppress(subprocess.SubprocessError, AssertionError):
            call("scancel", "--user", str(os.geteuid()))
            wait_until(lambda: not call("squeue", "--noheader"), "jobs remain")


def _answers(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, timeout=PATIENCE).returncode == 0


def _idle(nodes: tuple[str, ...]) -> bool:
    states = call("sinfo", "--noheader", "--Node", "--partition", PARTITIONS[0], "--format", "%T")
    return states.split() == ["idle"] * len(nodes)


@contextmanager
def throwaway_slurm(gpus: int = 2) -> Iterator[Slurm]:
    """Two nodes n1 and n2, each with ``gpus`` devices, 16 CPUs and 64 GB on paper; ask `why_not` before."""
    reason = why_not()
    if reason:
        raise RuntimeError(reason)
    nodes = ("n1", "n2")
    with ExitStack() as stack:
        # not below pytest's own folder: munged wants a socket that everyone can reach
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longgen-slurm-")))
        root.chmod(0o755)
        (root / "spool").mkdir()
        slurm = Slurm(root, nodes)
        _configure(root, nodes, gpus)
        stack.enter_context(_linked(root))
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        (root / files["key-file"]).write_bytes(os.urandom(1024))
        (root / files["key-file"]).chmod(0o600)
        given = [f"--{option}={root / name}" for option, name in files.items()]
        stack.enter_context(_daemon(slurm, "munged", "--foreground", *given))
        socket_path = str(root / files["socket"])
        wait_until(lambda: _answers("munge", "--socket", socket_path, "--no-input"), "munged does not answer")
        stack.enter_context(_daemon(slurm, "slurmctld", "-D", "-c"))
        wait_until(lambda: _answers("scontrol", "ping"), "slurmctld does not answer")
        for name in nodes:
            stack.enter_context(_daemon(slurm, "slurmd", "-D", "-c", "-N", name))
        wait_until(lambda: _idle(nodes), f"nodes are not idle; logs in {root}")
        stack.enter_context(_no_jobs_left())
        yield slurm
