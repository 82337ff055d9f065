"""What `longgen plan` prints."""

from __future__ import annotations

from typing import Any

from longgen.tables import Table
from longgen.units import binary_size, scaled

IDEAL = "ideal: speed-up over full attention, predicted and not measured"


def print_plans(rows: list[dict[str, Any]], title: str) -> None:
    """A line per row of costs; variants with the same numbers at all lengths, such as those by placement, share one."""
    rows, same = _without_repetition(rows)
    first = rows[0]
    if "model" in first:
        title = f"{first['model']}, {first['full_layers']}/{first['num_layers']} layers full ({first['placement']})"
    batches = ["batch"] if len({row.get("batch") for row in rows}) > 1 else []
    names = [name for name in ("variant",) if name in first]
    saved = "KV\nsaved" if names else "KV saved"  # beside names of variants, 80 columns are just enough
    keys, measures = ["length", *batches], ["KV cache", saved, "prefill\nFLOPs"]
    numbers = [*keys, *measures, "ideal\nprefill", "ideal\ndecode", "ideal\ntraining"]
    table = Table(names, numbers, title, "\n".join([*same, IDEAL]), keys=len(names) + len(keys))
    for row in rows:
        table.add(
            *(row[name] for name in names),
            f"{row['length']:,}",
            *(str(row[name]) for name in batches),
            binary_size(row["kv_bytes"]),
            f"{100 * (1 - row['kv_fraction']):.1f} %",
            scaled(row["prefill_flops"], 1000, ("", "k", "M", "G", "T", "P")),
            *speedups(row),
        )
    table.print()


def _without_repetition(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """``rows`` of the first of variants with the same numbers, as variant ``longgen-sink +4``; and who the 4 are."""
    numbers: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        of_row = tuple(value for value in row.values() if isinstance(value, int | float))
        numbers.setdefault(row.get("variant", ""), []).append(of_row)
    alike: dict[tuple[tuple[float, ...], ...], list[str]] = {}
    for name, of_variant in numbers.items():
        alike.setdefault(tuple(of_variant), []).append(name)
    names = {each[0]: f"{each[0]} +{len(each) - 1}" for each in alike.values() if len(each) > 1}
    firsts = {each[0] for each in alike.values()}
    kept = [row for row in rows if row.get("variant", "") in firsts]
    kept = [row | {"variant": names[row["variant"]]} if row.get("variant") in names else row for row in kept]
    return kept, [f"{names[each[0]]}: also {', '.join(each[1:])}" for each in alike.values() if each[0] in names]


def speedups(row: dict[str, Any]) -> list[str]:
    """The ideals of prefill, decode and training."""
    return [f"{row[f'ideal_{stage}_speedup']:.2f}x" for stage in ("prefill", "decode", "training")]
