"""`longgen short-context`: benchmarks of short contexts, through lm-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from longgen.cli.options import Threads, torch_dtype, use_threads
from longgen.cli.score_tables import print_scores
from longgen.names import SHORT_CONTEXT_TASKS


def short_context(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", show_default=False)],
    result: Annotated[Path, typer.Option(help="Results file to write.")],
    run: Annotated[str, typer.Option(help="Name of the run that the result is part of.")],
    variant: Annotated[str, typer.Option(help="Name of the model in it.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="Repeat for several.", show_default="those of the Open LLM Leaderboard, version 1"),
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="Examples before each question.", show_default="the task's own", min=0)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Questions of every task, the first ones.", show_default="all", min=1)
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="hub:, or a folder with short-context/TASK/SPLIT.jsonl.", show_default="stand-in data"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts computed together.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    threads: Threads = 0,
) -> None:
    """Ask a model the questions of MMLU, HellaSwag, ARC and others, with lm-eval's prompts and scores.

    Without --data-root the questions are stand-in data, and the result says so: it is no score of the benchmarks.

    Example: longgen short-context path/to/model --data-root hub: --run my-run --variant longgen-sink
    --result results/my-run/benchmarks/longgen-sink/short-context.json --batch-size 8 --dtype bfloat16 --device cuda
    """
    from longgen.evaluation.short_context import need_lm_eval, quiet_lm_eval
    from longgen.results import Result, check_run_name, save_result

    check_run_name(run)
    need_lm_eval()
    quiet_lm_eval()
    use_threads(threads)

    from longgen.evaluation.runs.model import attention_kernels, load_model, model_identity
    from longgen.evaluation.short_context.model import LongGenLM
    from longgen.evaluation.short_context.run import evaluate_short_context
    from longgen.evaluation.short_context.tasks import load_tasks
    from longgen.evaluation.sources import HUB
    from longgen.provenance import provenance

    chosen = torch_dtype(dtype, device)
    names = list(dict.fromkeys(task or SHORT_CONTEXT_TASKS))
    loaded = load_tasks(names, num_fewshot, data_root)
    network, tokenizer = load_model(model, chosen, device)
    asked = LongGenLM(network, tokenizer=tokenizer, batch_size=batch_size)
    records, prompts = evaluate_short_context(asked, loaded, limit)
    identity = model_identity(model, chosen)
    settings = {
        "data": {None: "stand-in", HUB: "hub"}.get(data_root, "folder"),
        "versions": {name: each.VERSION for name, each in loaded.tasks.items()},
        "limit": limit,
        "batch_size": batch_size,
        "dtype": identity["dtype"],
    }
    inputs = {"model": identity["model"], "prompts": prompts}
    origin = provenance(settings, 0, device, inputs, attention_kernels(network))
    save_result(result, Result("short-context", run, records, origin, variant, settings))
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
