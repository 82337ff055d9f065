"""Requests of the jobs that make or convert files."""

from __future__ import annotations

from longgen.cluster.assumptions import FILE_RATE, PACK_CPUS, PROCESS_BYTES, START_SECONDS, TOKENIZER_RATE
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.config import Experiment
from longgen.data.packing.configuration import load_pack_settings
from longgen.data.packing.settings import PackSettings


def corpus(job: ClusterJob) -> JobRequest:
    """Text of this machine or of a file, as bytes."""
    return JobRequest(seconds=START_SECONDS, memory=PROCESS_BYTES, cpus=job.cpus("cpu"))


def rows(job: ClusterJob) -> JobRequest:
    """Generated rows of a stage."""
    tokens = stage_tokens(job.experiment, job.wildcards["stage"])
    return JobRequest(seconds=START_SECONDS + tokens / TOKENIZER_RATE, memory=PROCESS_BYTES, cpus=job.cpus("cpu"))


def pack(job: ClusterJob) -> JobRequest:
    """Packed rows: everything is read and tokenised, and what is used is written."""
    settings = pack_settings(job.experiment)
    seconds = START_SECONDS + read_tokens(settings) / (PACK_CPUS * TOKENIZER_RATE)
    # a shard in 4-byte numbers, and a process each
    memory = PROCESS_BYTES * PACK_CPUS + 4 * settings.shard_tokens
    return JobRequest(seconds=seconds, memory=memory, cpus=PACK_CPUS)


def convert(job: ClusterJob) -> JobRequest:
    """Conversion: weights are fetched, read and written, some MiB at a time."""
    # the source has two or four bytes per weight
    seconds = START_SECONDS + 4 * job.model_bytes / FILE_RATE
    return JobRequest(seconds=seconds, memory=PROCESS_BYTES, cpus=job.cpus("cpu"))


def pack_settings(experiment: Experiment) -> PackSettings:
    """The packing that an extension reads. Raises ConfigError as `load_pack_settings`."""
    return load_pack_settings(str(experiment.extension.packed))


def read_tokens(settings: PackSettings) -> int:
    """Tokens that a packing reads: what its sources are cut off at, and at least what it writes."""
    return max(settings.tokens, sum(source.max_tokens or 0 for source in settings.sources))


def stage_tokens(experiment: Experiment, stage: str) -> int:
    """Tokens that a stage trains on."""
    return sum(phase.length * phase.batch_size * phase.steps for phase in experiment.stages[stage].phases)
