"""What the tables of times say, cell by cell: the unit, the interval, and what was composed."""

from __future__ import annotations

import pytest

from longgen.busy import SIGN
from longgen.hybrid import Hybrid
from longgen.model import Model
from longgen.profiling.stacks import Stack
from longgen.reporting.attention_speed import attention_speed_markdown
from longgen.reporting.inference_speed import inference_speed_markdown
from longgen.reporting.run import Run
from longgen.reporting.training_speed import training_speed_markdown
from tests.reporting import fake_inference, fake_training

TIMES, TO = "\u00d7", "\u2013"


def rows(text: str, title: str) -> list[dict[str, str]]:
    """The rows of the first table below the heading ``title``, by column."""
    lines = text[text.index(title) :].splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    heading, _, *found = table
    return [dict(zip(heading, cells, strict=True)) for cells in found]


def test_training_steps(model_run: Run) -> None:
    table = rows(training_speed_markdown(model_run), "## llama2-7b, 131,072 tokens")
    known = fake_training.KNOWN
    full = known["rest"] + 32 * known["full"]
    hybrid = known["rest"] + 12 * known["full"] + 20 * known["sink"]
    of_model = {(row["full layers"], row["pattern"]): row for row in table if row["what"] == "whole model, composed"}
    assert set(of_model) == {("32/32", "full"), *((f"{n}/32", p) for n in (11, 12) for p in ("sink", "stride-16"))}
    row = of_model["12/32", "sink"]
    step = f"{1.02 * hybrid:.3f} ({hybrid:.3f}{TO}{2 * hybrid:.3f}){SIGN}"
    assert row["step, s"] == step, "three rounds: 1, 2 and 1.02"
    assert row["speed-up"] == f"{full / hybrid:.2f}{TIMES} ({full / hybrid:.2f}{TO}{full / hybrid:.2f})"
    assert row["ideal (predicted)"] == f"1.80{TIMES}"
    assert row["share of ideal"] == f"{100 * full / hybrid / 1.80:.0f} %"
    assert row["memory, GiB"] == "", "nothing ran"
    flops = Model(
        fake_training.LLAMA, Hybrid(Stack("full", 32, 32).layout, Stack("sink", 32, 12).hybrid.pattern)
    ).training_flops(131072)
    assert of_model["32/32", "full"]["MFU"] == f"{100 * flops / (1.02 * full) / 989e12:.1f} %"
    slices = [row for row in table if row["what"] == "slice, measured"]
    assert {row["full layers"].split("/")[1] for row in slices} >= {"8", "4"}
    assert all(row["fit"] == "+0.0 %" or row["fit"] == "-0.0 %" for row in slices)


def test_prefill_and_decoding(model_run: Run) -> None:
    text = inference_speed_markdown(model_run)
    for length, how in (("32,768", "measured"), ("131,072", "composed")):
        table = rows(text, f"## llama2-7b, {length} tokens")
        for what, stage in (("prefill", "prefill"), ("decoding", "decode")):
            known = fake_inference.KNOWN[stage]
            full = known["rest"] + 32 * known["full"]
            hybrid = known["rest"] + 12 * known["full"] + 20 * known["sink"]
            (row,) = [
                row
                for row in table
                if (row["what"], row["full layers"], row["pattern"]) == (f"{what}, {how}", "12/32", "sink")
            ]
            median, interval = row["time, ms"].split(" ", 1)
            assert float(median.replace(",", "")) == pytest.approx(1010 * hybrid, abs=0.01)
            assert interval == f"({1000 * hybrid:,.2f}{TO}{2000 * hybrid:,.2f}){SIGN}"
            assert row["speed-up"].startswith(f"{full / hybrid:.2f}{TIMES} (")
            if stage == "prefill" and length == "131,072":
                stack = Stack("sink", 32, 12)
                kept = Model(fake_inference.LLAMA, stack.hybrid).kv_cache_bytes(131072)
                assert (row["KV of full"], row["KV, GiB"]) == ("38.0 %", f"{kept / 2**30:.2f}")


def test_attention_without_triton(kernel_run: Run) -> None:
    (forward, *_) = rows(attention_speed_markdown(kernel_run), "# Sparse attention without Triton")
    assert forward == {
        "dtype": "float32",
        "heads": "9/3x64",
        "tokens": "32,768",
        "pattern": "sink",
        "pass": "forward",
        "by": "blocked",
        "full, ms": "13,000.0",
        "sparse, ms": "1,300.0",
        "speed-up": f"10.00{TIMES} (9.50{TO}10.50)",
        "ideal": f"16.00{TIMES}",
        "share of ideal": "62 %",
    }
