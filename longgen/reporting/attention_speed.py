"""The table `attention_speed`: the path without Triton against full attention on a CPU, beside what sparsity allows."""

from __future__ import annotations

import pandas as pd

from longgen.reporting.disturbed import rule_lines, speedup_disturbed, with_disturbed, with_sign
from longgen.reporting.run import Run
from longgen.reporting.words import TIMES


def attention_speed_markdown(run: Run) -> str:
    """The records of kind ``attention-speed`` to read, with device, sizes and the rule of the ideal.

    Raises:
        ArtifactError: the run has none.
    """
    rows = run.frame("attention-speed")
    settings = run.settings("attention-speed")
    cells = [
        {
            "dtype": row["dtype"],
            "heads": f"{row['num_heads']}/{row['num_kv_heads']}x{row['head_dim']}",
            "tokens": f"{row['length']:,}",
            "pattern": row["pattern"],
            "pass": row["stage"],
            "by": row["implementation"],
            "full, ms": f"{1e3 * row['full_seconds']:,.1f}",
            "sparse, ms": f"{1e3 * row['seconds']:,.1f}",
            "speed-up": with_sign(f"{row['speedup']:.2f}{TIMES}", speedup_disturbed(row))
            + f" ({row['speedup_low']:.2f}\u2013{row['speedup_high']:.2f})",
            "ideal": f"{row['ideal_speedup']:.2f}{TIMES}",
            "share of ideal": f"{100 * row['fraction_of_ideal']:.0f} %",
        }
        for row in rows.to_dict("records")
    ]
    return "\n".join(
        [
            "# Sparse attention without Triton, on a CPU",
            "",
            f"{run.device('attention-speed')}; {run.days('attention-speed')}; batch 1, "
            f"{settings['threads']} thread(s); heads: query heads / KV heads x size of each. Medians of "
            f"{rows['n'].min()} rounds, in each of which full and sparse attention ran once; speed-ups are of the same "
            "round and dtype, with 95 % bootstrap intervals. Full attention is PyTorch's scaled_dot_product_attention; "
            "`blocked` is ours, `flex` is compiled FlexAttention with the same mask, which has no backward pass here. "
            "Ideal: pairs of tokens of full attention over those of the pattern.",
            "",
            pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True),
            *rule_lines(any(speedup_disturbed(row) for row in rows.to_dict("records"))),
            "",
        ]
    )


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    text = attention_speed_markdown(run)
    return with_disturbed(run.frame("attention-speed")), text
