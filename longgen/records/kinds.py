"""The kinds of results: where each lives, what its records are, and what makes it."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.records import benchmarks, experiment, kernels, others
from longgen.records.schema import Column, columns

# What results, and the figures and tables of them, are about: only an experiment has a plan and a part in the claims.
EXPERIMENT, KERNELS, STEPS, PACKING = "experiment", "kernels", "training steps", "packing"
INFERENCE = "inference"
SERVING = "a serving engine"
REDUCTIONS = "KV reductions"  # the full model of an experiment, with its KV cache reduced at inference
PROBE = "a probe"
BENCHMARKS = "benchmarks"
SEEDS = "seeds"  # several runs that differ in name and seed alone
# Those whose records are of a variant each, with or without a plan.
OF_VARIANTS = (EXPERIMENT, BENCHMARKS)

_BY_WORKFLOW = "snakemake --cores all --config experiment=config/{run}.yaml"
_BY_GPU_BENCHMARK = "python -m longgen.profiling.gpu --name {run}"
_BY_SCORING = "longgen benchmark score ... --run {run}"


@dataclass(frozen=True)
class Kind:
    """One kind of result.

    Attributes:
        record: class of its records.
        files: where it lives below a run's folder.
        made_by: the command that makes it.
        subject: what it is about: `EXPERIMENT`, `BENCHMARKS`, ...
    """

    record: type
    files: str
    made_by: str = _BY_WORKFLOW
    subject: str = EXPERIMENT

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of its records."""
        return columns(self.record)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Of its records."""
        return tuple(column.name for column in self.columns)


KINDS: dict[str, Kind] = {
    "plan": Kind(experiment.PlanRecord, "plan.json"),
    "corpus": Kind(experiment.CorpusRecord, "corpus.json"),
    "training": Kind(experiment.TrainingRecord, "training/<variant>.json"),
    # a view of kind ``benchmark``, of which there are no files (`longgen.reporting.views`); so is ``kv-reduction``
    "retrieval": Kind(benchmarks.RetrievalView, "benchmarks/<variant>/scores.json"),
    "perplexity": Kind(
        benchmarks.PerplexityRecord,
        "benchmarks/<variant>/perplexity.json",
        "longgen perplexity ... --run {run}",
        BENCHMARKS,
    ),
    "kv-reduction": Kind(
        benchmarks.ReductionView, "benchmarks/full/reduced-as-<budget_of>/scores.json", subject=REDUCTIONS
    ),
    "benchmark": Kind(benchmarks.BenchmarkRecord, "benchmarks/<variant>/scores.json", _BY_SCORING, BENCHMARKS),
    "benchmark-summary": Kind(benchmarks.SummaryRecord, "benchmarks/<variant>/summary.json", _BY_SCORING, BENCHMARKS),
    "short-context": Kind(
        benchmarks.ShortContextRecord,
        "benchmarks/<variant>/short-context.json",
        "longgen short-context ... --run {run}",
        BENCHMARKS,
    ),
    "speed": Kind(experiment.SpeedRecord, "profile/speed.json"),
    "memory": Kind(experiment.MemoryRecord, "profile/memory.json"),
    "device-limits": Kind(kernels.DeviceLimitRecord, "kernels/device-limits.json", _BY_GPU_BENCHMARK, KERNELS),
    "kernel-checks": Kind(kernels.KernelCheckRecord, "kernels/kernel-checks.json", _BY_GPU_BENCHMARK, KERNELS),
    "kernel-speed": Kind(kernels.KernelSpeedRecord, "kernels/kernel-speed.json", _BY_GPU_BENCHMARK, KERNELS),
    "kernel-tuning": Kind(
        kernels.KernelTuningRecord, "kernels/kernel-tuning.json", f"{_BY_GPU_BENCHMARK} --only tuning", KERNELS
    ),
    "training-speed": Kind(
        kernels.TrainingSpeedRecord, "kernels/training-speed.json", "longgen profile train --name {run}", STEPS
    ),
    "inference-speed": Kind(
        kernels.InferenceSpeedRecord,
        "kernels/inference-speed.json",
        "longgen profile inference --name {run}",
        INFERENCE,
    ),
    "serving-speed": Kind(
        kernels.ServingSpeedRecord, "kernels/serving-speed.json", "longgen profile serving MODEL --name {run}", SERVING
    ),
    "attention-speed": Kind(
        kernels.AttentionSpeedRecord,
        "kernels/attention-speed.json",
        "python -m longgen.profiling.cpu --name {run}",
        KERNELS,
    ),
    "packing": Kind(
        others.PackingRecord,
        "packing.json",
        "longgen pack CONFIG --output FOLDER --result results/{run}/packing.json",
        PACKING,
    ),
    # by heads: probe-heads.json
    "probe": Kind(others.ProbeRecord, "probe.json", "longgen probe MODEL --name {run}", PROBE),
}
# Of published runs: what was published, and where it came from. Nothing is drawn of it.
PUBLICATION = "publication"
_PUBLICATION = Kind(others.PublicationRecord, "publication.json", "longgen publish RUN --as {run}", "a publication")


def kind_of(name: str) -> Kind:
    """The kind called ``name`` in a results file. Raises KeyError if there is none."""
    return _PUBLICATION if name == PUBLICATION else KINDS[name]
