"""`longgen perplexity`: perplexity by position on long documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from longgen.cli.options import Threads, torch_dtype, use_threads
from longgen.strict import require


def perplexity(
    model: Annotated[Path, typer.Argument(help="Folder of the model.", show_default=False)],
    result: Annotated[Path, typer.Option(help="Results file to write.")],
    run: Annotated[str, typer.Option(help="Name of the run that the result is part of.")],
    variant: Annotated[str, typer.Option(help="Name of the model in it.")],
    text: Annotated[
        str | None,
        typer.Option(
            help="hub: for PG-19's test split, hub:owner/name for another dataset's (@revision may follow); "
            "or .txt (a document) or .jsonl files (a document per line), or a folder of either.",
            show_default="stand-in text",
        ),
    ] = None,
    documents: Annotated[int, typer.Option(help="How many, the first that are long enough.", min=1)] = 50,
    length: Annotated[int, typer.Option(help="Tokens of context; shorter documents are left out.", min=1)] = 131072,
    bins: Annotated[int, typer.Option(help="Into which positions are divided.", min=1)] = 32,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    threads: Threads = 0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap, and of the stand-in text.", min=0)] = 0,
) -> None:
    """Perplexity of a model by position on documents as long as its context, as kind `long-text`.

    After an interruption the same command goes on with the next document: what is done is beside the result.

    Example: longgen perplexity path/to/model --text hub: --documents 20 --dtype bfloat16 --device cuda
    --run my-run --variant full --result results/my-run/benchmarks/full/long-text.json
    """
    require(bins <= length, "--bins", bins, f"1..{length}, which is --length")
    use_threads(threads)

    from longgen.evaluation.likelihood import PREFILL_TOKENS, bin_edges, check_model, position_records
    from longgen.evaluation.long_text.documents import long_rows, open_text
    from longgen.evaluation.long_text.measure import measure_documents, row_hash
    from longgen.evaluation.runs.model import attention_kernels, load_model, model_identity
    from longgen.provenance import fingerprint, provenance
    from longgen.results import Result, check_run_name, save_result

    check_run_name(run)
    chosen = torch_dtype(dtype, device)
    loaded, tokenizer = load_model(model, chosen, device)
    check_model(loaded)
    opened = open_text(text, length, seed)
    rows = long_rows(opened, tokenizer, length, documents)
    identity = model_identity(model, chosen)
    work = result.with_suffix(".documents.jsonl")
    means = measure_documents(loaded, rows.tokens, bins, identity, work, f"perplexity {variant}")
    records: list[dict[str, Any]] = [
        {"source": opened.source} | record | {"stand_in": opened.stand_in}
        for record in position_records(means, bin_edges(length, bins), seed)
    ]
    settings = {
        "text": opened.source,
        "documents": documents,
        "documents_too_short": rows.short,
        "length": length,
        "bins": bins,
        "bos": tokenizer.bos_token_id is not None,
        "dtype": identity["dtype"],
        "prefill_tokens": PREFILL_TOKENS,
    }
    inputs = {"model": identity["model"], "text": fingerprint([row_hash(row) for row in rows.tokens])}
    origin = provenance(settings, seed, device, inputs, attention_kernels(loaded))
    save_result(result, Result("long-text", run, records, origin, variant, settings))
    print(f"{result}: {documents} documents of {opened.source}")
    for record in (records[0], records[-1]) if bins > 1 else records:
        place = f"{record['position_start']:,} to {record['position_end']:,}"
        print(f"  perplexity {record['perplexity']:.3f} at positions {place}")
    if opened.stand_in:
        print("  of stand-in text: no benchmark's perplexity")
