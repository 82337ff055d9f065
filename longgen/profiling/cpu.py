"""How close sparse attention comes on a CPU to the speed-up its pattern allows, against PyTorch's full attention.

    python -m longgen.profiling.cpu --lengths 8192 --name attention-cpu

times forward and backward of the blocked path (`longgen.attention.blocked`) and of causal scaled_dot_product_attention
on the same tensors, batch 1, in one process; and the forward pass of compiled FlexAttention with the same mask, which
has no backward pass on a CPU. In every round each runs once, and ratios are taken within the round, so that what else
the machine does at the time cancels out.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import longgen.passive  # noqa: F401

# isort: split
import torch

from longgen.attention import sparse_attention
from longgen.attention.call import AttentionCall
from longgen.attention.flex import flex_attend
from longgen.attention.sdpa import scaled_dot_product
from longgen.busy import spread, warning
from longgen.foreign import first_line
from longgen.hardware import computes_in_bfloat16
from longgen.pattern import SparsePattern, dense_pairs
from longgen.profiling.rounds import BASELINE, ratio_columns, rounds_by_stage
from longgen.profiling.table import aligned
from longgen.profiling.workloads import PATTERNS
from longgen.program import run_program
from longgen.progress import progress_bar
from longgen.provenance import provenance
from longgen.records.kernels import AttentionSpeedRecord
from longgen.results import RESULTS, Result, save_result

SEED = 0
BLOCKED, FLEX = "blocked", "flex"
DTYPES = ("float32", "bfloat16", "float16")


class Heads(NamedTuple):
    """Query heads, the KV heads that they share, and the size of each."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    def __str__(self) -> str:
        return f"{self.num_heads}/{self.num_kv_heads}x{self.head_dim}"


def measure_attention(
    patterns: dict[str, SparsePattern],
    lengths: Sequence[int],
    heads: Heads,
    dtype: str,
    repeats: int,
    flex: bool = False,
) -> list[AttentionSpeedRecord]:
    """Time full and sparse attention, forward and backward, on tensors [1, heads, length, head_dim].

    Args:
        patterns: what to compare with full attention, by name.
        lengths: in tokens.
        heads: how many, and of what size.
        dtype: a name of PyTorch's.
        repeats: rounds that count; one more before them warms up.
        flex: time FlexAttention's forward pass, too; compiling it needs a C++ compiler.

    Returns:
        A record per length, pattern, implementation and stage (``forward``, ``backward``, ``forward+backward``):
        ``full_seconds`` and ``seconds``, medians over the rounds; ``speedup``, the median of the ratios within rounds,
        with the ends of its 95 % bootstrap interval; ``ideal_speedup``, the pairs of tokens that full attention
        computes over those that the pattern does; ``fraction_of_ideal``, the one over the other; and how busy the
        machine was (`longgen.busy`).
    """
    implementations = (BLOCKED, FLEX) if flex else (BLOCKED,)
    cases = {f"{name} by {by}": (pattern, by) for name, pattern in patterns.items() for by in implementations}
    names = [BASELINE, *cases]
    records: list[AttentionSpeedRecord] = []
    with progress_bar((1 + repeats) * len(names) * len(lengths), f"{dtype} {heads}", "run") as bar:
        for length in lengths:
            generator = torch.Generator().manual_seed(SEED)
            sizes = [(1, count, length, heads.head_dim) for count in (heads.num_heads, *(heads.num_kv_heads,) * 2)]
            numbers = [torch.randn(size, generator=generator) for size in (*sizes, sizes[0])]
            *inputs, direction = (states.to(getattr(torch, dtype)) for states in numbers)

            def measure(name: str, inputs: Any = inputs, direction: Any = direction) -> dict[str, float]:
                pattern, by = cases.get(name, (None, BLOCKED))
                return _seconds(pattern, by, inputs, direction)

            times, busy = rounds_by_stage(names, repeats, measure, bar.update)
            for stage, seconds in times.items():
                for name, (pattern, by) in cases.items():
                    if name not in seconds:
                        continue
                    ideal = dense_pairs(length) / pattern.attended_pairs(length)
                    ratios = ratio_columns(seconds[BASELINE], seconds[name], fewest=1)
                    record = AttentionSpeedRecord(
                        dtype=dtype,
                        **heads._asdict(),
                        implementation=by,
                        length=length,
                        pattern=name.removesuffix(f" by {by}"),
                        stage=stage,
                        n=repeats,
                        full_seconds=median(seconds[BASELINE]),
                        seconds=median(seconds[name]),
                        ideal_speedup=ideal,
                        fraction_of_ideal=ratios["speedup"] / ideal,
                        spread=spread(seconds[name]),
                        **ratios,
                        **busy,
                    )
                    records.append(record)
    return records


def _seconds(
    pattern: SparsePattern | None, implementation: str, inputs: list[torch.Tensor], direction: torch.Tensor
) -> dict[str, float]:
    """Seconds of one run by stage; full attention without a pattern."""
    query, key, value = (states.detach().requires_grad_(implementation != FLEX) for states in inputs)
    start = time.perf_counter()
    if pattern is None:
        output = scaled_dot_product(query, key, value, is_causal=True)
    elif implementation == FLEX:
        scale = query.shape[-1] ** -0.5
        output = flex_attend(query, key, value, AttentionCall(pattern, scale, 0, (0,) * key.shape[1]), compiled=True)
    else:
        output = sparse_attention(query, key, value, pattern, backend=BLOCKED)
    middle = time.perf_counter()
    if implementation == FLEX:
        return {"forward": middle - start}
    torch.autograd.grad(output, (query, key, value), direction)
    end = time.perf_counter()
    return {"forward": middle - start, "backward": end - middle, "forward+backward": end - start}


def table(records: Sequence[AttentionSpeedRecord]) -> str:
    """``records`` as text."""
    headings = ("dtype", "heads", "length", "pattern", "pass", "by", "full ms", "ms", "ratio", "ideal", "of ideal")
    rows = [
        (
            *(record.dtype, str(Heads(record.num_heads, record.num_kv_heads, record.head_dim))),
            *(f"{record.length:,}", record.pattern, record.stage, record.implementation),
            *(f"{seconds * 1e3:.1f}" for seconds in (record.full_seconds, record.seconds)),
            *(f"{ratio:.2f}" for ratio in (record.speedup, record.ideal_speedup, record.fraction_of_ideal)),
        )
        for record in records
    ]
    return "\n".join(aligned(headings, rows, keys=6))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ``arguments`` instead of the process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m longgen.profiling.cpu",
        description="Time sparse attention on this CPU, forward and backward, against PyTorch's full causal attention "
        "on the same tensors (batch 1), for the patterns sink + window and sink + window + stride. The ideal is the "
        "ratio of the pairs of tokens that both compute. 8 heads of 64 at 32,768 tokens take about a minute per repeat "
        "in float32.",
    )
    parser.add_argument("--lengths", type=_positive, nargs="+", default=[8192], help="tokens (default: 8192)")
    parser.add_argument(
        "--heads",
        type=_heads,
        nargs="+",
        default=[Heads(8, 8, 64)],
        help="query heads / KV heads x size of each, such as 9/3x64 (default: 8/8x64)",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, nargs="+", default=["float32"], help="of the tensors (default: float32)"
    )
    parser.add_argument(
        "--flex", action="store_true", help="time FlexAttention's forward pass, too, compiled by the C++ compiler"
    )
    parser.add_argument("--repeats", type=_positive, default=5, help="rounds, after one that warms up (default: 5)")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--name", help="name of the run to write results for (default: print only)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the runs (default: %(default)s)")
    options = parser.parse_args(arguments)
    if "bfloat16" in options.dtype and not computes_in_bfloat16():
        print(
            "longgen: this CPU has no instructions for bfloat16, both kinds of attention are slow in it",
            file=sys.stderr,
        )
    torch.set_num_threads(options.threads)
    if options.flex and (problem := _why_no_compiler()):
        parser.error(f"--flex: {problem}")
    settings = {name: value for name, value in vars(options).items() if name not in ("name", "output")}
    settings["heads"] = [str(heads) for heads in options.heads]
    settings["patterns"] = {name: pattern.to_dict() for name, pattern in PATTERNS.items()}
    records: list[AttentionSpeedRecord] = []
    for dtype in options.dtype:
        for heads in options.heads:
            records += measure_attention(PATTERNS, options.lengths, heads, dtype, options.repeats, options.flex)
            if options.name:  # what is measured is kept, whatever comes after
                result = Result("attention-speed", options.name, records, provenance(settings, SEED), settings=settings)
                save_result(options.output / options.name / "kernels" / "attention-speed.json", result)
    print(table(records))
    if problem := warning(records):
        print(f"longgen: warning: {problem}", file=sys.stderr)


def _why_no_compiler() -> str | None:
    """Why nothing can be compiled for this CPU, in words; None if it can."""
    double: Callable[[torch.Tensor], torch.Tensor] = torch.compile(lambda states: states + states)
    try:
        double(torch.ones(2))
    except Exception as error:  # PyTorch's compiler raises its own, and those of what it calls
        return f"nothing can be compiled here: {first_line(error)}"
    return None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: allowed is a whole number >= 1")
    return number


def _heads(text: str) -> Heads:
    match = re.fullmatch(r"([1-9]\d*)(?:/([1-9]\d*))?x([1-9]\d*)", text)
    if match is None or int(match[1]) % int(match[2] or match[1]):
        raise argparse.ArgumentTypeError(f"{text}: allowed are QUERY_HEADS/KV_HEADSxHEAD_DIM, such as 9/3x64 or 8x64")
    return Heads(int(match[1]), int(match[2] or match[1]), int(match[3]))


if __name__ == "__main__":
    run_program(main)
