"""`longgen perplexity`: perplexity by position on long documents."""

from __future__ import annotations

from typing import Any

from longgen.cli.machine import torch_dtype, use_threads
from longgen.cli.options.evaluation import PerplexityOptions
from longgen.evaluation.likelihood import PREFILL_TOKENS, bin_edges, check_model, position_records
from longgen.evaluation.long_text.documents import long_rows, open_text
from longgen.evaluation.long_text.measure import measure_documents, row_hash
from longgen.evaluation.runs.model import attention_kernels, load_model, model_identity
from longgen.provenance import fingerprint, provenance
from longgen.results import Result, check_run_name, save_result


def perplexity(options: PerplexityOptions) -> None:
    """Measure it, write the results file, and print it at both ends of the context."""
    long_text = options.settings()
    use_threads(options.threads)
    check_run_name(options.run)
    dtype = torch_dtype(options.dtype, options.device)
    model, tokenizer = load_model(options.model, dtype, options.device)
    check_model(model)
    text = open_text(long_text.text, long_text.length, options.seed)
    rows = long_rows(text, tokenizer, long_text.length, long_text.documents)
    identity = model_identity(options.model, dtype)
    work = options.result.with_suffix(".documents.jsonl")
    means = measure_documents(model, rows.tokens, long_text.bins, identity, work, f"perplexity {options.variant}")
    records: list[dict[str, Any]] = [
        {"source": text.source} | record | {"stand_in": text.stand_in}
        for record in position_records(means, bin_edges(long_text.length, long_text.bins), options.seed)
    ]
    settings = {
        "text": text.source,
        "documents": long_text.documents,
        "documents_too_short": rows.short,
        "length": long_text.length,
        "bins": long_text.bins,
        "bos": tokenizer.bos_token_id is not None,
        "dtype": identity["dtype"],
        "prefill_tokens": PREFILL_TOKENS,
    }
    inputs = {"model": identity["model"], "text": fingerprint([row_hash(row) for row in rows.tokens])}
    origin = provenance(settings, options.seed, options.device, inputs, attention_kernels(model))
    save_result(options.result, Result("long-text", options.run, records, origin, options.variant, settings))
    print(f"{options.result}: {long_text.documents} documents of {text.source}")
    for record in (records[0], records[-1]) if long_text.bins > 1 else records:
        place = f"{record['position_start']:,} to {record['position_end']:,}"
        print(f"  perplexity {record['perplexity']:.3f} at positions {place}")
    if text.stand_in:
        print("  of stand-in text: no benchmark's perplexity")
