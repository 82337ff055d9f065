"""Names and numbers as readers see them; without matplotlib, so that tables are quick."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from longgen.names import DUO_ATTENTION, H2O, LM_INFINITE, PYRAMIDKV, SINK_WINDOW, SNAPKV, STREAMING_LLM, TOVA
from longgen.pattern import SparsePattern
from longgen.reporting.run import Run

# written as escapes, since linters take the characters for x and -
TIMES = "\u00d7"
TO = "\u2013"
SEPARATOR = " · "

_LABELS = {
    "full": "full attention",
    "longgen-sink": "LongGen (sink)",
    "longgen-stride": "LongGen (stride)",
    "longgen-staggered": "LongGen (staggered)",
    "longlora": "LongLoRA",
    "all-sparse": "all layers sparse",
    "base": "base model",
}


_METHODS = {
    DUO_ATTENTION: "DuoAttention",
    SNAPKV: "SnapKV",
    PYRAMIDKV: "PyramidKV",
    SINK_WINDOW: "sink + window",
    TOVA: "TOVA",
    STREAMING_LLM: "StreamingLLM",
    LM_INFINITE: "LM-Infinite",
    H2O: "H2O",
}


def in_method_order(names: Iterable[str]) -> list[str]:
    """Reductions of the KV cache, each once, in the order in which every table and figure has them: `_METHODS`'s."""
    places = {name: place for place, name in enumerate(_METHODS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def method_label(name: str) -> str:
    """A reduction of the KV cache as its authors write it: ``snapkv`` is "SnapKV"."""
    return _METHODS.get(name, name)


def variant_label(name: str) -> str:
    """A variant's name for readers: ``middle-1-6`` is "middle 1/6"."""
    ratio = re.fullmatch(r"(.+)-(\d+)-(\d+)", name)
    if ratio:
        return f"{ratio[1].replace('-', ' ')} {ratio[2]}/{ratio[3]}"
    return _LABELS.get(name, name)


def pattern_label(pattern: SparsePattern) -> str:
    """What a sparse layer sees, in words."""
    parts = (["sink"] if pattern.sink_blocks else []) + ["window"]
    suffix = " (staggered)" if pattern.staggered else ""
    return " + ".join(parts + ([f"stride {pattern.stride}{suffix}"] if pattern.stride else []))


def run_note(run: Run, *kinds: str) -> str:
    """The small print of a figure: the run, its model, and the device that measured ``kinds``."""
    parts = [f"run {run.name}", f"model {run.model_name}, {run.plan.model['num_layers']} layers"]
    device = run.device(*kinds)
    if device:
        parts.append(f"measured on {device}")
    return SEPARATOR.join(parts)


def speed_label(row: Mapping[Any, Any]) -> str:
    """A row of kind ``speed`` in a few words, such as "LongGen (sink) in decode at 8K"."""
    return f"{variant_label(row['variant'])} in {row['stage']} at {format_length(row['length'])}"


def device_note(run: Run, kind: str) -> str:
    """The small print of results of ``kind``: run, device, day, dtype; and whether they are a benchmark at all."""
    parts = [f"run {run.name}", run.device(kind), run.days(kind), str(run.settings(kind).get("dtype", ""))]
    if run.settings(kind).get("tiny"):
        parts.append("CPU, tried out: not a benchmark")
    return SEPARATOR.join(part for part in parts if part)


def number(value: float, style: str, unit: str = "", factor: float = 1.0) -> str:
    """``value`` times ``factor`` in a format such as ``.2f``, with its unit; empty if it is missing."""
    return "" if pd.isna(value) else f"{factor * value:{style}}{unit}"


def interval(low: str, high: str) -> str:
    """From ``low`` to ``high``: with a dash, or with the word where a sign beside a dash would be hard to read."""
    return f"{low} to {high}" if low.startswith(("-", "+")) or high.startswith(("-", "+")) else f"{low}{TO}{high}"


def with_interval(row: Mapping[Hashable, Any], column: str, style: str, unit: str = "", factor: float = 1.0) -> str:
    """A column of a row with the ends of its interval, if it has one; empty if it is missing."""
    if pd.isna(row[column]):
        return ""
    low, high = (number(row[f"{column}_{end}"], style, factor=factor) for end in ("low", "high"))
    if not low:  # of a single sample
        return number(row[column], style, unit, factor)
    return f"{number(row[column], style, unit, factor)} ({interval(low, high)})"


def format_length(length: float) -> str:
    """Tokens as 256, 2K or 128K (K is 1024)."""
    if length >= 1024 and (length / 1024 * 2) % 1 == 0:
        return f"{length / 1024:g}K"
    return f"{length:g}"


def format_bytes(count: float, _: object = None) -> str:
    """Bytes as 512 KiB, 1.5 GiB and so on; also a tick formatter."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def format_seconds(seconds: float, _: object = None) -> str:
    """A time as 5 µs, 20 ms or 3 s; also a tick formatter."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:,g} {unit}"
    return f"{seconds * 1e6:g} µs"


def wrap(text: str, width: int) -> str:
    """``text`` in lines of about ``width`` characters, broken at spaces."""
    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def format_percent(share: float, _: object = None) -> str:
    """A share as "38 %"; also a tick formatter."""
    return f"{100 * share:.0f} %"


def format_ratio(ratio: float, _: object = None) -> str:
    """A speed-up with the multiplication sign; also a tick formatter."""
    return f"{ratio:g}{TIMES}"
