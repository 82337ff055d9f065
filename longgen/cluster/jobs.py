"""The jobs that the workflow submits: which there are, and what each asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from longgen.cluster import benchmarks, data, evaluation, probing, training
from longgen.cluster.asked import Asked
from longgen.cluster.request import JobRequest
from longgen.config import Experiment, SetupSettings
from longgen.errors import ConfigError
from longgen.evaluation.names import DUO_ATTENTION
from longgen.layout import PROBED

# rule -> what its job asks for; all rules of the workflow but those in `LOCAL_RULES`, in the order of a run
REQUESTS: dict[str, Callable[[Asked], JobRequest]] = {
    "corpus": data.corpus,
    "pack": data.pack,
    "rows": data.rows,
    "base": training.base,
    "probe": probing.probe,
    "convert": data.convert,
    "untrained": data.convert,
    "extend": training.extend,
    "evaluate": evaluation.evaluate,
    "gates": evaluation.gates,
    "reduce_kv": evaluation.reduce_kv,
    "prompts": benchmarks.prompts,
    "answer": benchmarks.answer,
    "passkey_gates": benchmarks.passkey_gates,
    "answer_reduced": benchmarks.answer_reduced,
    "long_text": benchmarks.long_text,
    "short_context": benchmarks.short_context,
    "profile": evaluation.profile,
}
# Seconds of arithmetic or drawing each: they run where Snakemake does.
LOCAL_RULES = ("all", "plan", "score", "score_reduced", "run_figures", "figures")

Wildcards = dict[str, str]
Pairs = tuple[tuple[str, str], ...]


def job_request(
    rule: str,
    experiment: Experiment,
    setup: SetupSettings,
    variants: Sequence[str],
    wildcards: Mapping[str, str] | None = None,
) -> JobRequest:
    """What a job of a rule in `REQUESTS` asks for.

    Args:
        rule: its name.
        experiment: the configuration.
        setup: the processes that train.
        variants: of this invocation.
        wildcards: of the job, by name.

    Raises:
        ConfigError: the set-up cannot share out a stage's work, or the configuration has no part for this rule.
    """
    return REQUESTS[rule](Asked(experiment, setup, tuple(variants), dict(wildcards or {})))


def deciding(wildcards: Mapping[str, str]) -> Pairs:
    """The wildcards on which a request depends, to compute it once for all: shards are equal."""
    return tuple(pair for pair in wildcards.items() if pair[0] != "shard")


def selected_variants(experiment: Experiment, select: str = "default") -> list[str]:
    """The variants of an invocation: the configuration's default ones (``default``), ``all``, or names with commas.

    Raises:
        ConfigError: an unknown name, or the full model is not among them.
    """
    if select == "default":
        return experiment.default_variants
    if select == "all":
        return list(experiment.variants)
    asked = select.split(",")
    chosen = [name for name in experiment.variants if name in asked]
    if set(asked) - set(chosen) or "full" not in chosen:
        allowed = ", ".join(experiment.variants)
        raise ConfigError(f"select is {select!r}: allowed are default, all, or names with full among them: {allowed}")
    return chosen


def submitted_jobs(experiment: Experiment, variants: Sequence[str]) -> dict[str, list[Wildcards]]:
    """The wildcards of every job that a whole run submits, by rule, in the order of `REQUESTS`.

    The workflow's own rules say which jobs there are; this repeats it for tables, and a test compares.
    """
    each = [{"variant": name} for name in variants]
    jobs: dict[str, list[Wildcards]] = {rule: [] for rule in REQUESTS}
    jobs["corpus"] = [{}] if experiment.data else []
    jobs["pack"] = [{}] if experiment.extension.packed else []
    jobs["base"] = [{}] if experiment.base else []
    generated = {"base": experiment.base is not None, "extension": experiment.extension.packed is None}
    jobs["rows"] = [{"stage": stage} for stage, made in generated.items() if made]
    jobs["probe"] = [{"heads": name.removeprefix(PROBED)} for name in experiment.probed_placements]
    jobs["convert"] = jobs["extend"] = [job for job in each if experiment.variant(job["variant"]).trained]
    jobs["untrained"] = [job for job in each if job not in jobs["extend"]]
    jobs["profile"] = [{}] if experiment.profiling else []
    _add_evaluation(jobs, experiment, each)
    _add_benchmarks(jobs, experiment, each)
    return {rule: found for rule, found in jobs.items() if found}


def _add_evaluation(jobs: dict[str, list[Wildcards]], experiment: Experiment, each: list[Wildcards]) -> None:
    settings = experiment.evaluation
    if settings is None:
        return
    jobs["evaluate"] = each
    reduction = settings.kv_reduction
    if reduction is not None:
        jobs["reduce_kv"] = [job for job in each if job["variant"] in reduction.budgets_of]
        jobs["gates"] = [{}] if jobs["reduce_kv"] and DUO_ATTENTION in reduction.methods else []


def _add_benchmarks(jobs: dict[str, list[Wildcards]], experiment: Experiment, each: list[Wildcards]) -> None:
    settings = experiment.benchmarks
    if settings is None:
        return
    shards = [{"shard": str(shard)} for shard in range(settings.shards)]
    jobs["long_text"] = each if settings.long_text else []
    jobs["short_context"] = each if settings.short_context else []
    jobs["prompts"] = [{"suite": name} for name in settings.suites]
    jobs["answer"] = [job | shard for job in each for shard in shards] if settings.suites else []
    reduction = settings.kv_reduction
    if reduction is not None:
        budgets = [job["variant"] for job in each if job["variant"] in reduction.budgets_of]
        reduced = [{"method": method, "budget": budget} for method in reduction.methods for budget in budgets]
        jobs["answer_reduced"] = [job | shard for job in reduced for shard in shards]
        jobs["passkey_gates"] = [{}] if reduced and DUO_ATTENTION in reduction.methods else []
