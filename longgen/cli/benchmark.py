"""`longgen benchmark`: needle, RULER, BABILong and LongBench with their own prompts and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longgen.cli.options import Threads, torch_dtype, use_threads
from longgen.errors import ConfigError
from longgen.evaluation.names import KV_REDUCTIONS
from longgen.strict import require

if TYPE_CHECKING:
    from longgen.evaluation.runs.prompts import PromptFile

app = typer.Typer(
    no_args_is_help=True,
    help="Benchmarks by their own rules: prepare the prompts once, let every model answer them, score the answers.",
)

Prompts = Annotated[Path, typer.Option(help="Folder of `longgen benchmark prepare`.")]
Answers = Annotated[Path, typer.Option(help="Folder of a model's answers.")]


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(metavar="BENCHMARK", help="needle, ruler, babilong or longbench.")],
    tokenizer: Annotated[str, typer.Option(help="Folder or hub id of the model's tokenizer: it counts the lengths.")],
    output: Annotated[Path, typer.Option(help="Folder of all prompts.")],
    length: Annotated[
        list[int] | None,
        typer.Option(help="Tokens of prompt and answer; repeat for several.", show_default="natural length"),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Repeat for several.", show_default="all")] = None,
    samples: Annotated[int, typer.Option(help="Of every task and length (needle: and depth).", min=1)] = 100,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder with the benchmarks' own data; see their docs.", show_default="stand-in data"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.", min=0)] = 0,
) -> None:
    """Make the prompts of a benchmark: JSON lines, a file for every task and length. What is there is kept.

    Without --data-root prompts are made of stand-in data, and every result says so: it is no score of the benchmark.

    Example: longgen benchmark prepare ruler --tokenizer path/to/model --length 4096 --length 131072 --output prompts
    """
    from transformers import AutoTokenizer

    from longgen.evaluation.benchmarks import benchmark, check_tasks
    from longgen.evaluation.runs.prompts import write_prompts
    from longgen.progress import progress_bar
    from longgen.provenance import fingerprint

    chosen = benchmark(name)
    tasks = check_tasks(chosen, task or [])
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"--tokenizer is {tokenizer!r}: allowed is a folder or a hub id ({reason})") from None
    identity = fingerprint([sorted(loaded.get_vocab().items()), str(loaded.special_tokens_map)])
    root = None if data_root is None else Path(data_root)
    made: list[PromptFile] = []
    lengths: Sequence[int | None] = length or [None]
    with progress_bar(len(tasks) * len(lengths), f"{name} prompts", "file") as bar:
        for each in tasks:
            for tokens in lengths:
                made.append(write_prompts(chosen, each, tokens, samples, loaded, identity, seed, root, output))
                bar.update()
    kind = "stand-in data" if any(file.stand_in for file in made) else "the benchmark's data"
    print(f"{output / name}: {sum(file.samples for file in made):,} prompts in {len(made)} files, of {kind}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", show_default=False)],
    prompts: Prompts,
    output: Answers,
    shard: Annotated[int, typer.Option(help="Which part of the prompts, from 0.", min=0)] = 0,
    shards: Annotated[int, typer.Option(help="How many parts there are.", min=1)] = 1,
    batch_tokens: Annotated[
        int, typer.Option(help="Prompts answered together, in tokens with padding; 0: one at a time.", min=0)
    ] = 0,
    kv_method: Annotated[
        str | None,
        typer.Option(help=f"Reduce the KV cache of a full model: {', '.join(KV_REDUCTIONS)}.", show_default="none"),
    ] = None,
    kv_fraction: Annotated[float, typer.Option(help="With --kv-method: to this share of its bytes.")] = 0.38,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    threads: Threads = 0,
) -> None:
    """Answer all prompts of a folder greedily, in one process. After an interruption the same command goes on.

    Several processes take a shard each. Answers to prompts that changed, and of another model, are given anew.
    """
    from longgen.evaluation.runs.predict import predict as answer

    use_threads(threads)

    from longgen.evaluation.runs.model import greedy, load_model, model_identity, reduced

    chosen = torch_dtype(dtype)
    files = _prompt_files(prompts)
    loaded, tokenizer = load_model(model, chosen, device)
    identity, generate = model_identity(model, chosen), greedy(loaded)
    if kv_method is not None:
        require(kv_method in KV_REDUCTIONS, "--kv-method", kv_method, ", ".join(KV_REDUCTIONS))
        identity |= {"kv_method": kv_method, "kv_fraction": kv_fraction}
        generate = reduced(loaded, kv_method, kv_fraction)
    given = sum(
        answer(file, tokenizer, generate, identity, output, shard, shards, batch_tokens, device) for file in files
    )
    print(f"{output}: {given:,} answers given now, by {model}")


@app.command()
def score(
    prompts: Prompts,
    answers: Annotated[Path, typer.Option(help="Folder of a model's answers, of `longgen benchmark predict`.")],
    result: Annotated[Path, typer.Option(help="Results file to write.")],
    run: Annotated[str, typer.Option(help="Name of the run that the result is part of.")],
    variant: Annotated[str, typer.Option(help="Name of the model in it.")],
) -> None:
    """Score the answers to all prompts of a folder, with 95 % bootstrap intervals over samples."""
    from longgen.evaluation.benchmarks import benchmark
    from longgen.evaluation.runs.scoring import score_answers
    from longgen.provenance import provenance
    from longgen.results import Result, check_run_name, save_result

    check_run_name(run)
    records: list[dict[str, Any]] = []
    inputs = {}
    files = _prompt_files(prompts)
    for file in files:
        records += score_answers(benchmark(file.path.parent.name), file, answers)
        inputs[f"{file.path.parent.name}/{file.path.stem}"] = file.fingerprint
    settings = {"answers": _answered_by(files[0], answers)}
    save_result(result, Result("benchmark", run, records, provenance(settings, 0, inputs=inputs), variant, settings))
    _print_scores(records)


def _prompt_files(folder: Path) -> list[PromptFile]:
    from longgen.evaluation.runs.prompts import PromptFile

    paths = sorted(folder.rglob("*.jsonl"))
    if not paths:
        raise ConfigError(f"--prompts is '{folder}', which holds no prompts: `longgen benchmark prepare` makes them")
    return [PromptFile.open(path) for path in paths]


def _answered_by(file: PromptFile, answers: Path) -> dict[str, Any]:
    from longgen.evaluation.runs.predict import ANSWERED_BY, answers_folder
    from longgen.files import read_json

    return read_json(answers_folder(answers, file) / ANSWERED_BY, "longgen benchmark predict")


def _print_scores(records: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    stand_in = any(record["stand_in"] for record in records)
    caption = "made of stand-in data: no scores of the benchmarks" if stand_in else None
    table = Table(caption=caption, box=box.SIMPLE)
    for column in ("benchmark", "task", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("length", "depth", "n", "score", "95 % interval"):
        table.add_column(column, justify="right", no_wrap=True)
    for record in records:
        interval = f"{100 * record['score_low']:.1f}-{100 * record['score_high']:.1f}"
        length = "" if record["length"] is None else f"{record['length']:,}"
        depth = "" if record["depth"] is None else f"{record['depth']:g}"
        place = (record["benchmark"], record["task"], record["metric"], length, depth, str(record["n"]))
        table.add_row(*place, f"{100 * record['score']:.1f}", interval)
    Console(width=None if Console().is_terminal else 120).print(table)
