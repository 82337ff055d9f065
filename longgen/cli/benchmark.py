"""`longgen benchmark`: needle, RULER, BABILong and LongBench with their own prompts and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longgen.cli.options import Threads, torch_dtype, use_threads
from longgen.cli.score_tables import print_scores
from longgen.errors import ArtifactError, ConfigError
from longgen.foreign import first_line
from longgen.names import DUO_ATTENTION, KV_REDUCTIONS, NONE
from longgen.strict import require

if TYPE_CHECKING:
    from longgen.evaluation.runs.prompts import PromptFile

app = typer.Typer(
    no_args_is_help=True,
    help="Benchmarks by their own rules: prepare the prompts once, let every model answer them, score the answers.",
)

Prompts = Annotated[
    list[Path], typer.Option(help="Folder of `longgen benchmark prepare`, or its index; repeat for several.")
]
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
    depth: Annotated[
        list[float] | None,
        typer.Option(help="needle: where it stands, 0 to 1; repeat for several.", show_default="0, 0.25 ... 1"),
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder with the benchmarks' own data; see their docs.", show_default="stand-in data"),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Write here which files were asked for.", show_default="none")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.", min=0)] = 0,
) -> None:
    """Make the prompts of a benchmark: JSON lines, a file for every task and length. What is there is kept.

    Without --data-root prompts are made of stand-in data, and every result says so: it is no score of the benchmark.

    Example: longgen benchmark prepare ruler --tokenizer path/to/model --length 4096 --length 131072 --output prompts
    """
    from transformers import AutoTokenizer

    from longgen.evaluation.benchmarks import benchmark, check_tasks
    from longgen.evaluation.runs.prompts import PromptSource, check_prompts, write_index, write_prompts
    from longgen.progress import progress_bar
    from longgen.provenance import fingerprint

    chosen = benchmark(name)
    tasks = check_tasks(chosen, task or [])
    require(not depth or name == "needle", "--depth", depth, "with needle alone")
    require(all(0 <= each <= 1 for each in depth or []), "--depth", depth, "within 0..1")
    options = {"depths": depth} if depth else {}
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # transformers stumbles anywhere over what is no tokenizer
        raise ConfigError(
            f"--tokenizer is {tokenizer!r}: allowed is a folder or a hub id ({first_line(error)})"
        ) from error
    identity = fingerprint([sorted(loaded.get_vocab().items()), str(loaded.special_tokens_map)])
    root = None if data_root is None else Path(data_root)
    made: list[PromptFile] = []
    lengths: Sequence[int | None] = length or [None]
    source = PromptSource(chosen, samples, loaded, identity, seed, root, output, options)
    check_prompts(source, tasks, lengths)
    with progress_bar(len(tasks) * len(lengths), f"{name} prompts", "file") as bar:
        for each in tasks:
            for tokens in lengths:
                made.append(write_prompts(source, each, tokens))
                bar.update()
    if index is not None:
        write_index(index, made)
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
    kv_budget: Annotated[
        str, typer.Option(help="With --kv-method: to this share of its bytes, or to those of the hybrid in a folder.")
    ] = "0.38",
    kv_gates: Annotated[
        Path | None, typer.Option(help="With --kv-method duo-attention: file of `longgen gates`.", show_default="none")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    threads: Threads = 0,
) -> None:
    """Answer all prompts of a folder greedily, in one process. After an interruption the same command goes on.

    Several processes take a shard each. Answers to prompts that changed, and of another model, are given anew.
    """
    from longgen.evaluation.runs.predict import predict as answer

    use_threads(threads)
    from longgen.evaluation.runs.model import greedy, load_model, model_identity
    from longgen.evaluation.runs.prompts import read_prompts

    chosen = torch_dtype(dtype, device)
    files = [file for each in prompts for file in read_prompts(each)]
    loaded, tokenizer = load_model(model, chosen, device)
    identity, generate = model_identity(model, chosen), greedy(loaded)
    if kv_method is not None:
        from longgen.evaluation.baselines import read_gates
        from longgen.evaluation.runs.reduced import KvBudget, reduced, reduced_identity

        require(kv_method in KV_REDUCTIONS, "--kv-method", kv_method, ", ".join(KV_REDUCTIONS))
        require(
            (kv_gates is not None) == (kv_method == DUO_ATTENTION),
            "--kv-gates",
            None if kv_gates is None else str(kv_gates),
            f"a file of `longgen gates` with {DUO_ATTENTION}, none without",
        )
        budget = KvBudget.parse(kv_budget)
        gates = None if kv_gates is None else read_gates(kv_gates, model)
        identity["kv_reduction"] = reduced_identity(kv_method, budget, gates)
        generate = reduced(loaded, kv_method, budget, gates)
    given = sum(
        answer(file, tokenizer, generate, identity, output, shard, shards, batch_tokens, device) for file in files
    )
    print(f"{output}: {given:,} answers given now, by {model}")


@app.command()
def score(
    prompts: Prompts,
    answers: Annotated[Path, typer.Option(help="Folder of a model's answers, of `longgen benchmark predict`.")],
    output: Annotated[Path, typer.Option(help="Folder for scores.json and summary.json.")],
    run: Annotated[str, typer.Option(help="Name of the run that the results are part of.")],
    variant: Annotated[str, typer.Option(help="Name of the model in it.")],
) -> None:
    """Score the answers to all prompts, with 95 % intervals over samples, and the benchmarks' own averages."""
    from longgen.evaluation.benchmarks import benchmark
    from longgen.evaluation.runs.prompts import read_prompts
    from longgen.evaluation.runs.scoring import score_answers, score_records, summary_records
    from longgen.provenance import provenance
    from longgen.results import Result, check_run_name, save_result

    check_run_name(run)
    files = [file for each in prompts for file in read_prompts(each)]
    scores: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    for name in dict.fromkeys(file.benchmark for file in files):
        chosen = benchmark(name)
        scored = score_answers(chosen, [file for file in files if file.benchmark == name], answers)
        scores += score_records(chosen, scored)
        summaries += summary_records(chosen, scored)
    answered_by = _answered_by(files, answers)
    reduction = answered_by.get("kv_reduction", {"method": NONE, "budget_of": NONE})
    who = {key: reduction[key] for key in ("method", "budget_of")}
    settings = {"answers": answered_by}
    origin = provenance(settings, 0, inputs={f"{file.benchmark}/{file.path.stem}": file.fingerprint for file in files})
    for kind, name, records in (("benchmark", "scores", scores), ("benchmark-summary", "summary", summaries)):
        result = Result(kind, run, [record | who for record in records], origin, variant, settings)
        save_result(output / f"{name}.json", result)
    _print_scores(scores)
    _print_summaries(summaries)


def _answered_by(files: list[PromptFile], answers: Path) -> dict[str, Any]:
    from longgen.evaluation.runs.predict import ANSWERED_BY, answers_folder
    from longgen.files import read_json

    found = [read_json(answers_folder(answers, file) / ANSWERED_BY, "longgen benchmark predict") for file in files]
    for file, identity in zip(files, found, strict=True):
        if identity != found[0]:
            other = f"{file.benchmark}/{file.path.stem}"
            raise ArtifactError(
                f"{answers}: {other} was not answered by the model that answered {files[0].benchmark}/"
                f"{files[0].path.stem}: `longgen benchmark predict` answers all anew"
            )
    return found[0]


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
