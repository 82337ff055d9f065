"""`longgen perplexity`: perplexity by position on long text."""

from __future__ import annotations

from typing import Any

from longgen.cli.machine import torch_dtype, use_threads
from longgen.cli.options.evaluation import PerplexityOptions
from longgen.evaluation.likelihood import PREFILL_TOKENS, bin_edges, check_model, position_records
from longgen.evaluation.perplexity.documents import read_rows
from longgen.evaluation.perplexity.measure import measure_documents, row_hash
from longgen.evaluation.runs.model import attention_kernels, load_model, model_identity
from longgen.hardware import require_gpu
from longgen.provenance import fingerprint, provenance
from longgen.results import Result, check_run_name, save_result


def perplexity(options: PerplexityOptions) -> None:
    """Measure it, write the results file, and print it at both ends of the context."""
    parameters = options.settings()
    use_threads(options.threads)
    check_run_name(options.run)
    require_gpu("--device", options.device)
    dtype = torch_dtype(options.dtype, options.device)
    model, tokenizer = load_model(options.model, dtype, options.device)
    check_model(model)
    rows = read_rows(parameters.text, tokenizer, parameters.length, parameters.documents, options.seed)
    identity = model_identity(options.model, dtype)
    work = options.result.with_suffix(".documents.jsonl")
    means = measure_documents(model, rows.tokens, parameters.bins, identity, work, f"perplexity {options.variant}")
    records: list[dict[str, Any]] = [
        {"source": rows.source} | record | {"stand_in": rows.stand_in}
        for record in position_records(means, bin_edges(parameters.length, parameters.bins), options.seed)
    ]
    settings = {
        "text": rows.source,
        "documents": parameters.documents,
        "documents_too_short": rows.short,
        "length": parameters.length,
        "bins": parameters.bins,
        "bos": rows.bos,
        "dtype": identity["dtype"],
        "prefill_tokens": PREFILL_TOKENS,
    }
    inputs = {"model": identity["model"], "text": fingerprint([row_hash(row) for row in rows.tokens])}
    origin = provenance(settings, options.seed, options.device, inputs, attention_kernels(model))
    save_result(options.result, Result("perplexity", options.run, records, origin, options.variant, settings))
    print(f"{options.result}: {parameters.documents} documents of {rows.source}")
    for record in (records[0], records[-1]) if parameters.bins > 1 else records:
        place = f"{record['position_start']:,} to {record['position_end']:,}"
        print(f"  perplexity {record['perplexity']:.3f} at positions {place}")
    if rows.stand_in:
        print("  of stand-in text: no benchmark's perplexity")
