"""The experiment of this invocation, and what every rule takes from it."""

import functools
import os
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

from longgen.cluster import RESOURCES, job_request, request_wildcards
from longgen.config import load_experiment
from longgen.errors import LongGenError
from longgen.hardware import main_memory
from longgen.layout import PROBED
from longgen.orphans import ENDS_WITH
from longgen.probed_layout import BY, record_name
from longgen.provenance import fingerprint
from longgen.workflow import selected_variants
from longgen.workflow.graph import PLANS_ONLY
from longgen.workflow.lock import note_holder, remove_stale_lock

for key in config:
    if key not in ("experiment", "select", "setup"):
        raise WorkflowError(
            f"--config {key}=...: allowed are experiment=PATH, select=NAMES and setup=NAME"
        )

CONFIG = config.get("experiment", "config/smoke.yaml")
try:
    EXPERIMENT = load_experiment(CONFIG)
    # the variants of this invocation, and the set-up of processes that trains
    VARIANTS = selected_variants(EXPERIMENT, config.get("select", "default"))
    SETUP = config.get("setup", EXPERIMENT.setup)
    PROCESSES = EXPERIMENT.setup_named(SETUP)
except LongGenError as error:
    raise WorkflowError(str(error))

RUN = EXPERIMENT.name
ARTIFACTS = f"artifacts/{RUN}"
RESULTS = f"results/{RUN}"
FIGURES = f"paper_figures/{RUN}"


# What is killed by SIGKILL cannot end its jobs: they look for themselves. Elsewhere Slurm does that.
os.environ[ENDS_WITH] = str(os.getpid())

# Nor can it unlock the folder: the next run does.
if workflow.is_main_process and PLANS_ONLY not in os.environ:
    if message := remove_stale_lock():
        logger.info(message)


# Jobs on this machine share its main memory as they share its processors; `--resources mem_mb=...` gives them less or more.
if (
    workflow.is_main_process
    and workflow.local_exec
    and not workflow.dryrun
    and "mem_mb" not in workflow.global_resources
):
    workflow.register_resource("mem_mb", main_memory() // 2**20)


onstart:
    if workflow.is_main_process:
        note_holder(jobs_here=workflow.local_exec)


def settings(*sections):
    """Fingerprint of parts of the configuration: as a rule's param it makes Snakemake rerun what depends on them."""
    return fingerprint(EXPERIMENT.section(*sections))


def variant_settings(name):
    """Fingerprint of one resolved variant: editing another one changes nothing here."""
    return fingerprint(str(EXPERIMENT.variant(name)))


def options(**values):
    """Options of a command from names and values; a list repeats its option, and None leaves it out."""
    words = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                words.append(f"--{name.replace('_', '-')} {shlex.quote(str(each))}")
    return " ".join(words)


@functools.cache
def request_of(rule, wildcards):
    """What a job of a rule, with these pairs of wildcards, requests of a cluster."""
    try:
        return job_request(rule, EXPERIMENT, PROCESSES, VARIANTS, dict(wildcards))
    except LongGenError as error:
        raise WorkflowError(f"{CONFIG}, set-up {SETUP}: {error}")


GPU_PARTITION = os.environ.get("LONGGEN_SLURM_GPU_PARTITION")
CPU_PARTITION = os.environ.get("LONGGEN_SLURM_PARTITION")


def job_resources(rule):
    """The resources of a rule: what Slurm gets, and `cpus`, the processors that its command uses.

    On a cluster a job computes on all that it requested; on this machine on the `threads` that it is scheduled with.
    Resources and no params, as they change no result: on other processors nothing is made again.
    """

    def request(wildcards):
        return request_of(rule, request_wildcards(wildcards))

    def of(name):
        return lambda wildcards, attempt: request(wildcards).resources(
            attempt, EXPERIMENT.cluster
        )[name]

    def cpus(wildcards, threads):
        return request(wildcards).cpus if workflow.remote_exec else threads

    # the profile gives all jobs one partition: a rule alone knows whether its job has GPUs
    def partition(wildcards):
        return GPU_PARTITION if request(wildcards).gpus else CPU_PARTITION

    partitions = {"slurm_partition": partition} if GPU_PARTITION else {}
    return {name: of(name) for name in RESOURCES} | {"cpus": cpus} | partitions


CAPTIONS = Path(workflow.basedir) / "workflows" / "report"


def in_report(name, suffix, category):
    """A file that `snakemake --report` shows, with its caption, under the title that the caption begins with."""
    caption = CAPTIONS / f"{name}.rst"
    return report(
        f"{FIGURES}/{name}.{suffix}",
        caption=str(caption),
        category=category,
        labels={"title": caption.read_text(encoding="utf-8").splitlines()[0]},
    )


# Records of the base model's probes: what variants need, or the configuration asks for.
PROBES = [f"{RESULTS}/{record_name(name)}" for name in EXPERIMENT.probed_placements]


def probe_of(wildcards):
    """The record that says which layers of a variant are full, where a probe chooses them."""
    placement = EXPERIMENT.variant(wildcards.variant).placement
    return f"{RESULTS}/{record_name(placement)}" if placement in BY else []


TRAINED = [name for name in EXPERIMENT.variants if EXPERIMENT.variant(name).trained]


wildcard_constraints:
    heads="|-heads",
    variant="|".join(EXPERIMENT.variants),
    stage="base|extension",
