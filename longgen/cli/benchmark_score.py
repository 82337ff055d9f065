"""`longgen benchmark score`: scores of the answers to the prompts of benchmarks, and the benchmarks' averages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from longgen.cli.options.benchmark import BenchmarkScoreOptions
from longgen.cli.score_tables import print_scores
from longgen.errors import ArtifactError
from longgen.evaluation.benchmarks import benchmark
from longgen.evaluation.runs.predict import ANSWERED_BY, ANSWERED_ON, answers_folder
from longgen.evaluation.runs.prompts import PromptFile, choose_prompts, prompt_settings, read_prompts
from longgen.evaluation.runs.scoring import score_answers, score_records, summary_records
from longgen.files import read_json
from longgen.names import NONE
from longgen.provenance import provenance
from longgen.results import Result, check_run_name, save_result


def benchmark_score(options: BenchmarkScoreOptions) -> None:
    """Write scores and averages as results files, and print them."""
    check_run_name(options.run)
    files = [file for each in options.prompts for file in read_prompts(each)]
    files = choose_prompts(files, options.task, options.length)
    scores: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    identities = {folder: _answering_identity(files, folder, ANSWERED_BY) for folder in options.answers}
    for folder, identity in identities.items():
        reduction = identity.get("kv_reduction", {"method": NONE, "budget_of": NONE})
        who = {key: reduction[key] for key in ("method", "budget_of")}
        for name in dict.fromkeys(file.benchmark for file in files):
            definition = benchmark(name)
            cell_scores = score_answers(definition, [file for file in files if file.benchmark == name], folder)
            scores += [record | who for record in score_records(definition, cell_scores)]
            summaries += [record | who for record in summary_records(definition, cell_scores)]
    models = {json.dumps({name: each[name] for name in ("model", "dtype")}) for each in identities.values()}
    if len(models) > 1:
        raise ArtifactError(f"{', '.join(map(str, identities))}: answers of several models: allowed are those of one")
    settings = {"prompts": prompt_settings(files), "answers": list(identities.values())}
    origin = provenance(settings, _seed(files), inputs={_name(file): file.fingerprint for file in files})
    for folder in identities:  # where answers were given, not where they are scored
        origin |= read_json(answers_folder(folder, files[0]) / ANSWERED_ON, "longgen benchmark predict")
    for kind, name, records in (("benchmark", "scores", scores), ("benchmark-summary", "summary", summaries)):
        save_result(
            options.output / f"{name}.json", Result(kind, options.run, records, origin, options.variant, settings)
        )
    _print_scores(scores)
    _print_summaries(summaries)


def _answering_identity(files: list[PromptFile], answers: Path, name: str) -> dict[str, Any]:
    identities = [read_json(answers_folder(answers, file) / name, "longgen benchmark predict") for file in files]
    for file, identity in zip(files, identities, strict=True):
        if identity != identities[0]:
            raise ArtifactError(
                f"{answers}: {_name(file)} was not answered by the model that answered {_name(files[0])}: "
                "`longgen benchmark predict` answers all anew"
            )
    return identities[0]


def _name(file: PromptFile) -> str:
    return f"{file.benchmark}/{file.path.stem}"


def _seed(files: list[PromptFile]) -> int:
    """That of the prompts; 0 where they have several."""
    seeds = {file.made_from["seed"] for file in files}
    return seeds.pop() if len(seeds) == 1 else 0


def _print_scores(records: list[dict[str, Any]]) -> None:
    names = ("benchmark", "task", "metric", *_method_column(records))
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
    names = ("benchmark", "summary", *_method_column(records))
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


def _method_column(records: list[dict[str, Any]]) -> tuple[str, ...]:
    """The column of the methods by which KV caches were reduced, if any was."""
    return ("method",) if any(record["method"] != NONE for record in records) else ()


def _summary_value(record: dict[str, Any]) -> str:
    if record["value"] is None:
        return "none"
    return f"{record['value']:,} tokens" if record["unit"] == "tokens" else f"{record['value']:.1f}"
