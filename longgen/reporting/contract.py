"""The input contract of reporting: where each kind of result lives, and what its records must hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from longgen.busy import WATCHED
from longgen.errors import ArtifactError
from longgen.reporting import BENCHMARKS, EXPERIMENT, INFERENCE, KERNELS, PACKING, PROBE, REDUCTIONS, SERVING, STEPS
from longgen.speed_records import FAILED, MEASURED, NOT_MEASURED, UNSUPPORTED

# What a record of a kernel says of its measurement; docs/results-format.md tells them apart.
STATUSES = (MEASURED, UNSUPPORTED, FAILED, NOT_MEASURED)
# Those whose records are of a variant each, with or without a plan.
OF_VARIANTS = (EXPERIMENT, BENCHMARKS)
_BY_WORKFLOW = "snakemake --cores all --config experiment=config/{run}.yaml"
_BY_BENCHMARK = "python -m longgen.profiling.gpu --name {run}"


@dataclass(frozen=True)
class Kind:
    """One kind of result.

    Attributes:
        files: where it lives below a run's folder.
        columns: those that its records must have.
        made_by: the command that makes it.
        subject: `EXPERIMENT`, `BENCHMARKS`, `REDUCTIONS`, `KERNELS`, `STEPS`, `INFERENCE`, `PACKING` or `PROBE`.
        measured: the columns that a record of status "measured" must fill.
        newer: columns that files of earlier versions lack; there they are missing in every record.
    """

    files: str
    columns: tuple[str, ...]
    made_by: str = _BY_WORKFLOW
    subject: str = EXPERIMENT
    measured: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()


def _kernel_kind(name: str, columns: tuple[str, ...], measured: tuple[str, ...], options: str = "") -> Kind:
    return Kind(f"kernels/{name}.json", columns, _BY_BENCHMARK + options, KERNELS, measured)


_TIMES = ("n", "seconds", "seconds_low", "seconds_high")
_RATES = ("flops_per_second", "bytes_per_second")
_SCORES = ("n", "score", "score_low", "score_high")
_EXACT = ("exact", "exact_low", "exact_high")
_SHARE = ("share", "share_low", "share_high")
_ANSWERS = (*_SHARE, "parts", "outcomes")
_BUSY = ("spread", "speedup_spread", *WATCHED)
_BUDGET = ("method", "budget_of", "kv_fraction")

# docs/results-format.md explains every column.
KINDS: dict[str, Kind] = {
    "plan": Kind(
        "plan.json",
        (
            *("variant", "placement", "pattern", "full_layers", "num_layers", "length", "kv_bytes", "kv_fraction"),
            *("prefill_flops", "training_flops", "decode_bytes"),
            *("ideal_prefill_speedup", "ideal_decode_speedup", "ideal_training_speedup"),
        ),
    ),
    "corpus": Kind("corpus.json", ("source", "split", "documents", "tokens", "sha256")),
    "training": Kind(
        "training/<variant>.json",
        (
            *("stage", "phase", "step", "length", "tokens", "loss", "answer_accuracy"),
            *("learning_rate", "seconds", "tokens_per_second"),
        ),
    ),
    "retrieval": Kind(
        "evaluation/<variant>/retrieval.json",
        ("task", "length", "depth", "n", *_EXACT),
        newer=_ANSWERS,
    ),
    "perplexity": Kind(
        "evaluation/<variant>/perplexity.json",
        ("position_start", "position_end", "n", "nll", "nll_low", "nll_high", "perplexity"),
    ),
    "kv-reduction": Kind(
        "kv-reduction/<budget_of>.json",
        (*_BUDGET, "task", "length", "depth", "n", *_EXACT),
        subject=REDUCTIONS,
        newer=_ANSWERS,
    ),
    "benchmark": Kind(
        "benchmarks/<variant>/scores.json",
        (*("benchmark", "task", "metric", "length", "depth"), *_SCORES, "stand_in", *_BUDGET),
        "longgen benchmark score ... --run {run}",
        BENCHMARKS,
    ),
    "benchmark-summary": Kind(
        "benchmarks/<variant>/summary.json",
        (*("benchmark", "summary", "length", "n", "value", "value_low", "value_high", "unit", "stand_in"), *_BUDGET),
        "longgen benchmark score ... --run {run}",
        BENCHMARKS,
    ),
    "long-text": Kind(
        "benchmarks/<variant>/long-text.json",
        (
            *("source", "position_start", "position_end", "n", "nll", "nll_low", "nll_high"),
            *("perplexity", "stand_in"),
        ),
        "longgen perplexity ... --run {run}",
        BENCHMARKS,
    ),
    "short-context": Kind(
        "benchmarks/<variant>/short-context.json",
        ("task", "metric", "num_fewshot", *_SCORES, "stand_in"),
        "longgen short-context ... --run {run}",
        BENCHMARKS,
    ),
    "speed": Kind(
        "profile/speed.json",
        ("variant", "stage", "length", *_TIMES, "speedup", "speedup_low", "speedup_high"),
        newer=_BUSY,
    ),
    "memory": Kind("profile/memory.json", ("variant", "length", "kv_bytes", "kv_bytes_planned", "kv_fraction")),
    "device-limits": _kernel_kind("device-limits", ("quantity", "unit", "value", *_TIMES), ()),
    "kernel-checks": _kernel_kind(
        "kernel-checks",
        (
            *("what", "shape", "num_heads", "num_kv_heads", "head_dim", "length", "pattern", "dtype", "tensor"),
            *("tolerance", "error", "passed", "status", "reason"),
        ),
        ("error", "passed"),
    ),
    "kernel-speed": _kernel_kind(
        "kernel-speed",
        (
            *("stage", "shape", "num_heads", "num_kv_heads", "head_dim", "dtype", "length", "batch", "pattern"),
            *("implementation", "flops", "bytes", *_RATES, "ideal_seconds", "ideal_from", "fraction_of_ideal"),
            *("speedup", "status", "reason", *_TIMES),
        ),
        (*_TIMES, *_RATES),
    ),
    "kernel-tuning": _kernel_kind(
        "kernel-tuning",
        (
            *("kernel", "shape", "num_heads", "num_kv_heads", "head_dim", "length", "pattern", "queries", "keys"),
            *("warps", "stages", "dtype", "shipped", "status", "reason", *_TIMES),
        ),
        _TIMES,
        " --only tuning",
    ),
    "training-speed": Kind(
        "kernels/training-speed.json",
        (
            *(
                "what",
                "shape",
                "length",
                "num_layers",
                "full_layers",
                "pattern",
                "dtype",
                "full_kernel",
                "sparse_kernel",
            ),
            *("flops", *_TIMES, "speedup", "speedup_low", "speedup_high", "ideal_speedup", "fraction_of_ideal", "mfu"),
            *("fit_error", "peak_bytes", "note", "status", "reason"),
        ),
        "longgen profile train --name {run}",
        STEPS,
        ("n", "seconds"),  # a single round has no interval
        _BUSY,
    ),
    "inference-speed": Kind(
        "kernels/inference-speed.json",
        (
            *("what", "composed", "shape", "length", "batch", "num_layers", "full_layers", "pattern", "dtype", "chunk"),
            *("full_kernel", "sparse_kernel", "flops", "bytes", *_TIMES, "speedup", "speedup_low", "speedup_high"),
            *("ideal_speedup", "fraction_of_ideal", "fit_error", "peak_bytes", "kv_bytes", "note", "status", "reason"),
        ),
        "longgen profile inference --name {run}",
        INFERENCE,
        ("length",),  # a longest context has no times
        _BUSY,
    ),
    "serving-speed": Kind(
        "kernels/serving-speed.json",
        (
            *("engine", "shape", "length", "new_tokens", "requests", "kv_memory", "chunk", "dtype", "num_layers"),
            *("full_layers", "pattern", "sequences", "running", "preemptions", "kv_bytes", "n", "seconds"),
            *("tokens_per_second", "first_token", "first_token_low", "first_token_high"),
            *("speedup", "speedup_low", "speedup_high", *_BUSY, "status", "reason"),
        ),
        "longgen profile serving MODEL --name {run}",
        SERVING,
        ("sequences", "running", "kv_bytes", "seconds"),  # a load runs once: no interval of its time
    ),
    "attention-speed": Kind(
        "kernels/attention-speed.json",
        (
            *("dtype", "num_heads", "num_kv_heads", "head_dim", "implementation"),
            *("length", "pattern", "stage", "n", "full_seconds", "seconds", "speedup", "speedup_low", "speedup_high"),
            *("ideal_speedup", "fraction_of_ideal", *_BUSY),
        ),
        "python -m longgen.profiling.cpu --name {run}",
        KERNELS,
    ),
    "packing": Kind(
        "packing.json",
        (
            *("domain", "length_low", "length_high", "documents_read", "tokens_read"),
            *("documents_duplicate", "tokens_duplicate", "documents_used", "tokens_used", "tokens_wasted"),
            *("bad_records", "seconds", "tokens_per_second", "workers"),
        ),
        "longgen pack CONFIG --output FOLDER --result results/{run}/packing.json",
        PACKING,
    ),
    "probe": Kind(
        "probe.json",  # by heads: probe-heads.json
        ("by", "set", "full_layers", "layer", "head", "layout", "n", "answer_losses", "text_losses"),
        "longgen probe MODEL --name {run}",
        PROBE,
    ),
}
TEXT_COLUMNS = frozenset(
    {
        *("variant", "placement", "pattern", "source", "split", "sha256", "stage", "phase", "task"),
        *("quantity", "unit", "what", "shape", "dtype", "tensor", "implementation", "ideal_from", "kernel"),
        *("status", "reason", "domain", "full_kernel", "sparse_kernel", "note", "benchmark", "metric"),
        *("method", "budget_of", "summary", "outcomes", "by", "set", "layout", "engine"),
    }
)
FLAG_COLUMNS = frozenset({"passed", "shipped", "stand_in", "composed"})

# A number for every one of the record's ``n`` samples.
LIST_COLUMNS = frozenset({"answer_losses", "text_losses"})


def check_columns(frame: pd.DataFrame, kind: Kind, path: Path) -> pd.DataFrame:
    """The records in ``frame`` with columns of their types: text, lists of numbers, numbers (missing ones NaN), flags
    (missing ones NA).

    Columns that earlier versions did not write are added, all NaN.

    Raises:
        ArtifactError: a column is absent or of another type, a status is unknown, or a value that was measured is null.
    """
    for column in kind.newer:
        if column not in frame:
            frame[column] = math.nan
    for column in (*kind.columns, *kind.newer):
        if column not in frame:
            raise ArtifactError(f"{path}: column {column!r} is missing; see docs/results-format.md")
        if column in FLAG_COLUMNS:
            if not all(value is None or isinstance(value, bool) for value in frame[column].tolist()):
                raise ArtifactError(f"{path}: column {column!r} holds something that is not true, false or null")
            frame[column] = frame[column].astype("boolean")
        elif column in LIST_COLUMNS:
            for values, count in zip(frame[column], frame["n"], strict=True):
                if not isinstance(values, list) or len(values) != count or not all(map(_is_finite, values)):
                    raise ArtifactError(f"{path}: column {column!r} holds something that is no list of n numbers")
        elif column not in TEXT_COLUMNS:
            try:
                frame[column] = pd.to_numeric(frame[column])
            except (ValueError, TypeError):
                raise ArtifactError(f"{path}: column {column!r} holds something that is not a number") from None
    if "status" in kind.columns:
        unknown = set(frame["status"]) - set(STATUSES)
        if unknown:
            raise ArtifactError(f"{path}: status is {min(map(str, unknown))!r}: allowed are {', '.join(STATUSES)}")
        for column in kind.measured:
            if frame.loc[frame["status"] == MEASURED, column].isna().any():
                raise ArtifactError(f"{path}: column {column!r} is null in a record of status {MEASURED!r}")
    return frame


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
