"""`longgen short-context`: benchmarks of short contexts, through lm-eval."""

from __future__ import annotations

from typing import Any

from longgen.cli.machine import torch_dtype, use_threads
from longgen.cli.options.evaluation import ShortContextOptions
from longgen.cli.score_tables import print_scores
from longgen.config import ShortContextSettings
from longgen.evaluation.runs.model import attention_kernels, load_model, model_identity
from longgen.evaluation.short_context.model import LongGenLM
from longgen.evaluation.short_context.run import evaluate_short_context
from longgen.evaluation.short_context.tasks import load_tasks
from longgen.evaluation.sources import HUB
from longgen.names import SHORT_CONTEXT_TASKS
from longgen.provenance import provenance
from longgen.results import Result, check_run_name, save_result


def short_context(options: ShortContextOptions) -> None:
    """Ask the questions, write the results file, and print the scores."""
    check_run_name(options.run)
    questions = options.questions.applied_to(ShortContextSettings())
    use_threads(options.threads)
    dtype = torch_dtype(options.dtype, options.device)
    names = list(dict.fromkeys(questions.tasks or SHORT_CONTEXT_TASKS))
    loaded_tasks = load_tasks(names, options.num_fewshot, questions.data_root)
    network, tokenizer = load_model(options.model, dtype, options.device)
    model = LongGenLM(network, tokenizer=tokenizer, batch_size=questions.batch_size)
    records, prompts = evaluate_short_context(model, loaded_tasks, questions.limit)
    identity = model_identity(options.model, dtype)
    settings = {
        "data": {None: "stand-in", HUB: "hub"}.get(questions.data_root, "folder"),
        "versions": {name: each.VERSION for name, each in loaded_tasks.tasks.items()},
        "limit": questions.limit,
        "batch_size": questions.batch_size,
        "dtype": identity["dtype"],
    }
    inputs = {"model": identity["model"], "prompts": prompts}
    origin = provenance(settings, 0, options.device, inputs, attention_kernels(network))
    save_result(options.result, Result("short-context", options.run, records, origin, options.variant, settings))
    _print_scores([record for record in records if record["task"] in names])


def _print_scores(records: list[dict[str, Any]]) -> None:
    rows = [
        (
            *(str(record[name]) for name in ("task", "metric", "num_fewshot", "n")),
            f"{100 * record['score']:.1f}",
            f"{100 * record['score_low']:.1f}-{100 * record['score_high']:.1f}",
        )
        for record in records
    ]
    print_scores(("task", "metric"), ("examples", "n", "score", "95 % interval"), rows, records)
