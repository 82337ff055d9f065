"""How close sparse attention comes on a CPU to the speed-up its pattern allows, against PyTorch's full attention.

    python -m longgen.profiling.cpu --lengths 8192 --name attention-cpu

times forward and backward of the blocked path (`longgen.attention.blocked`) and of causal scaled_dot_product_attention
on the same float32 tensors, batch 1, in one process. In every round each runs once, and ratios are taken within the
round, so that what else the machine does at the time cancels out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import longgen.passive  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F

from longgen.attention import sparse_attention
from longgen.pattern import SparsePattern, dense_pairs
from longgen.profiling.attention.workloads import PATTERNS
from longgen.profiling.profile import BASELINE, Records, rounds, speed_records
from longgen.profiling.text import aligned
from longgen.program import run_program
from longgen.progress import progress_bar
from longgen.provenance import provenance
from longgen.results import RESULTS, Result, save_result

SEED = 0


def measure_attention(
    patterns: dict[str, SparsePattern], lengths: Sequence[int], heads: int, head_dim: int, repeats: int
) -> Records:
    """Time full and sparse attention, forward and backward, on float32 tensors [1, heads, length, head_dim].

    Args:
        patterns: what to compare with full attention, by name.
        lengths: in tokens.
        heads: query heads and KV heads.
        head_dim: of each.
        repeats: rounds that count; one more before them warms up.

    Returns:
        A record per length, pattern and stage (``forward``, ``backward``, ``forward+backward``): ``full_seconds`` and
        ``seconds``, medians over the rounds; ``speedup``, the median of the ratios within rounds, with the ends of its
        95 % bootstrap interval; ``ideal_speedup``, the pairs of tokens that full attention computes over those that the
        pattern does; ``fraction_of_ideal``, the one over the other.
    """
    names = [BASELINE, *patterns]
    records: Records = []
    with progress_bar((1 + repeats) * len(names) * len(lengths), "attention", "run") as bar:
        for length in lengths:
            generator = torch.Generator().manual_seed(SEED)
            shape = (1, heads, length, head_dim)
            inputs = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]
            direction = torch.randn(shape, generator=generator)

            def measure(name: str, length: int, inputs: Any = inputs, direction: Any = direction) -> dict[str, float]:
                return _seconds(patterns.get(name), inputs, direction)

            times = rounds(names, length, repeats, measure, bar.update)
            for stage in times:
                by_name = {record["variant"]: record for record in speed_records(stage, length, times[stage])}
                records += [
                    _against_ideal(by_name[name], by_name[BASELINE], pattern) for name, pattern in patterns.items()
                ]
    return records


def _seconds(pattern: SparsePattern | None, inputs: list[torch.Tensor], direction: torch.Tensor) -> dict[str, float]:
    """Seconds of one run by stage; full attention without a pattern."""
    query, key, value = inputs
    start = time.perf_counter()
    if pattern is None:
        output = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        output = sparse_attention(query, key, value, pattern, backend="blocked")
    middle = time.perf_counter()
    torch.autograd.grad(output, inputs, direction)
    end = time.perf_counter()
    return {"forward": middle - start, "backward": end - middle, "forward+backward": end - start}


def _against_ideal(record: dict[str, Any], full: dict[str, Any], pattern: SparsePattern) -> dict[str, Any]:
    length = record["length"]
    ideal = dense_pairs(length) / pattern.attended_pairs(length)
    return {
        "length": length,
        "pattern": record["variant"],
        "stage": record["stage"],
        "n": record["n"],
        "full_seconds": full["seconds"],
        "seconds": record["seconds"],
        "speedup": record["speedup"],
        "speedup_low": record["speedup_low"],
        "speedup_high": record["speedup_high"],
        "ideal_speedup": ideal,
        "fraction_of_ideal": record["speedup"] / ideal,
    }


def table(records: Records) -> str:
    """``records`` as text."""
    headings = ("length", "pattern", "pass", "full ms", "blocked ms", "ratio", "ideal", "fraction of ideal")
    rows = [
        (
            *(f"{record['length']:,}", record["pattern"], record["stage"]),
            *(f"{record[seconds] * 1e3:.1f}" for seconds in ("full_seconds", "seconds")),
            *(f"{record[ratio]:.2f}" for ratio in ("speedup", "ideal_speedup", "fraction_of_ideal")),
        )
        for record in records
    ]
    return "\n".join(aligned(headings, rows, keys=3))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ``arguments`` instead of the process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m longgen.profiling.cpu",
        description="Time sparse attention on this CPU, forward and backward, against PyTorch's full causal attention "
        "on the same float32 tensors (batch 1), for the patterns sink + window and sink + window + stride. The ideal "
        "is the ratio of the pairs of tokens that both compute. 32,768 tokens take about a minute per repeat.",
    )
    parser.add_argument("--lengths", type=_positive, nargs="+", default=[8192], help="tokens (default: 8192)")
    parser.add_argument("--heads", type=_positive, default=8, help="heads (default: 8)")
    parser.add_argument("--head-dim", type=_positive, default=64, help="size of each head (default: 64)")
    parser.add_argument("--repeats", type=_positive, default=5, help="rounds, after one that warms up (default: 5)")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--name", help="name of the run to write results for (default: print only)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    records = measure_attention(PATTERNS, options.lengths, options.heads, options.head_dim, options.repeats)
    print(table(records))
    if options.name:
        settings = {name: value for name, value in vars(options).items() if name not in ("name", "output")}
        settings["patterns"] = {name: pattern.to_dict() for name, pattern in PATTERNS.items()}
        result = Result("attention-speed", options.name, records, provenance(settings, SEED), settings=settings)
        save_result(options.output / options.name / "kernels" / "attention-speed.json", result)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: allowed is a whole number >= 1")
    return number


if __name__ == "__main__":
    run_program(main)
