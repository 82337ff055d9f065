"""`longgen pack`: long training rows from a corpus of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from longgen.cli.options.data import PackOptions
from longgen.data.packing.configuration import load_pack_settings
from longgen.data.packing.pack import Packing
from longgen.data.packing.pack import pack as pack_rows
from longgen.data.packing.settings import PackSettings
from longgen.provenance import provenance
from longgen.results import Result, save_result
from longgen.tables import BOLD, Table


def pack(options: PackOptions) -> None:
    """Pack the rows, print what became of the corpus, and write the results file."""
    settings = load_pack_settings(options.config)
    if options.workers is not None:
        settings = replace(settings, workers=options.workers)
    packing = pack_rows(settings, options.output)
    _print_report(packing, settings, options.output)
    if options.result is not None:
        identity = settings.identity()
        origin = provenance(identity, settings.seed, inputs={"rows": packing.fingerprint})
        save_result(options.result, Result("packing", settings.name, packing.records, origin, settings=identity))


def _print_report(packing: Packing, settings: PackSettings, output: Path) -> None:
    *records, total = [row | {"tokens_before": row["tokens_read"] - row["tokens_duplicate"]} for row in packing.records]
    documents = [record for record in records if record["length_low"] is not None]
    threshold = settings.upsampling.threshold
    for key, heading in (("domain", "domain"), ("length_low", "tokens per document")):
        table = Table(
            [heading],
            [*("tokens read", "share", "long", "tokens used", "share", "long"), *_REST],
            title=f"{settings.name}, method {settings.method}: by {heading}",
            caption=f"shares are without duplicates; long: that of documents of at least {threshold:,} tokens",
        )
        for name in sorted({record[key] for record in documents}):
            label = name if key == "domain" else f"{name:,} or more"
            table.add(label, *_cells([record for record in documents if record[key] == name], total, threshold))
        table.add("all", *_cells(documents, total, threshold), style=BOLD)
        table.print()
    print(f"{output}: {total['tokens_used']:,} tokens" + ("" if packing.written else ", nothing to do"))
    print(f"  {total['tokens_per_second']:,.0f} tokens read per second, {total['seconds']:,.1f} s in all")
    if total["bad_records"]:
        print(f"  {total['bad_records']:,} bad records, the first:", *packing.bad, sep="\n    ")


_REST = {"documents used": "documents_used", "duplicates": "documents_duplicate", "wasted tokens": "tokens_wasted"}


def _cells(rows: list[dict[str, Any]], total: dict[str, Any], threshold: int) -> list[str]:
    cells = []
    for column, total_column in (("tokens_read", "tokens_before"), ("tokens_used", "tokens_used")):
        tokens = sum(row[total_column] for row in rows)
        long = sum(row[total_column] for row in rows if row["length_low"] >= threshold)
        shares = [
            f"{100 * part / max(whole, 1):.1f} %" for part, whole in ((tokens, total[total_column]), (long, tokens))
        ]
        cells += [f"{sum(row[column] for row in rows):,}", *shares]
    return [*cells, *(f"{sum(row[column] for row in rows):,}" for column in _REST.values())]
