"""`longgen benchmark score`: scores of the answers to the prompts of benchmarks, and the benchmarks' averages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longgen.cli.options.benchmark import BenchmarkScoreOptions
from longgen.cli.score_tables import print_scores
from longgen.errors import ArtifactError
from longgen.evaluation.benchmarks import benchmark
from longgen.evaluation.runs.predict import ANSWERED_BY, answers_folder
from longgen.evaluation.runs.prompts import PromptFile, read_prompts
from longgen.evaluation.runs.scoring import score_answers, score_records, summary_records
from longgen.files import read_json
from longgen.names import NONE
from longgen.provenance import provenance
from longgen.results import Result, check_run_name, save_result


def benchmark_score(options: BenchmarkScoreOptions) -> None:
    """Write scores and averages as results files, and print them."""
    check_run_name(options.run)
    files = [file for each in options.prompts for file in read_prompts(each)]
    scores: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    for name in dict.fromkeys(file.benchmark for file in files):
        definition = benchmark(name)
        answer_scores = score_answers(definition, [file for file in files if file.benchmark == name], options.answers)
        scores += score_records(definition, answer_scores)
        summaries += summary_records(definition, answer_scores)
    answered_by = _answered_by(files, options.answers)
    reduction = answered_by.get("kv_reduction", {"method": NONE, "budget_of": NONE})
    who = {key: reduction[key] for key in ("method", "budget_of")}
    settings = {"answers": answered_by}
    origin = provenance(settings, 0, inputs={f"{file.benchmark}/{file.path.stem}": file.fingerprint for file in files})
    for kind, name, records in (("benchmark", "scores", scores), ("benchmark-summary", "summary", summaries)):
        result = Result(kind, options.run, [record | who for record in records], origin, options.variant, settings)
        save_result(options.output / f"{name}.json", result)
    _print_scores(scores)
    _print_summaries(summaries)


def _answered_by(files: list[PromptFile], answers: Path) -> dict[str, Any]:
    identities = [read_json(answers_folder(answers, file) / ANSWERED_BY, "longgen benchmark predict") for file in files]
    for file, identity in zip(files, identities, strict=True):
        if identity != identities[0]:
            other = f"{file.benchmark}/{file.path.stem}"
            raise ArtifactError(
                f"{answers}: {other} was not answered by the model that answered {files[0].benchmark}/"
                f"{files[0].path.stem}: `longgen benchmark predict` answers all anew"
            )
    return identities[0]


def _print_scores(records: list[dict[str, Any]]) -> None:
    names = ("benchmark", "task", "metric")
    rows = [
        (
            *(record[name] for name in names),
            "" if record["length"] is None else f"{record['length']:,}",
            "" if record["depth"] is None else f"{record['depth']:g}",
            str(record["n"]),
            f"{100 * record['score']:.1f}",
            f"{100 * record['score_low']:.1f}-{100 * record['score_high']:.1f}",
        )
        for record in records
    ]
    print_scores(names, ("length", "depth", "n", "score", "95 % interval"), rows, records)


def _print_summaries(records: list[dict[str, Any]]) -> None:
    names = ("benchmark", "summary")
    rows = [
        (
            *(record[name] for name in names),
            "all" if record["length"] is None else f"{record['length']:,}",
            str(record["n"]),
            _summary_value(record),
            "" if record["value_low"] is None else f"{record['value_low']:.1f}-{record['value_high']:.1f}",
        )
        for record in records
    ]
    if rows:
        print_scores(names, ("length", "n", "value", "95 % interval"), rows, records)


def _summary_value(record: dict[str, Any]) -> str:
    if record["value"] is None:
        return "none"
    return f"{record['value']:,} tokens" if record["unit"] == "tokens" else f"{record['value']:.1f}"
