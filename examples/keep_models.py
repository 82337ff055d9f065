"""Keep the models of a finished `make run` in half precision for examples/find_the_needle.py: `make example-models`.

Each folder in examples/models is a checkpoint that `AutoModelForCausalLM` loads after `import longgen`;
examples/models/README.md says what made it and what it finds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import longgen  # noqa: F401 - registers the model classes with transformers
from longgen.files import atomic_directory, atomic_file
from longgen.program import run_program
from longgen.results import RESULTS, load_result

RUN = "smoke"
NAMES = ("full", "longgen-sink", "all-sparse")
PLACE = Path(__file__).resolve().parent / "models"

HEAD = """# Models of half a million parameters

Made by `make run`, kept in half precision by `make example-models`, which wrote this file; shown by
`python examples/find_the_needle.py`. They read bytes, and know how to find a key in text, and little else.

| model | full layers | needles found at 2,048 tokens | commit | trained on |
|---|---|---|---|---|
"""


def found(name: str) -> str:
    """How many needles a variant finds at the longest length that was asked, over all depths."""
    records = load_result(RESULTS / RUN / "benchmarks" / name / "scores.json", "make run").records
    needles = [record for record in records if (record["benchmark"], record["task"]) == ("recall", "needle")]
    longest = max(record["length"] for record in needles)
    outcomes = [right for record in needles if record["length"] == longest for right in record["outcomes"]]
    return f"{sum(outcomes):.0f} of {len(outcomes)}"


def keep(name: str) -> dict[str, Any]:
    """Write one model; the provenance of its training."""
    trained = load_result(RESULTS / RUN / "training" / f"{name}.json", "make run")
    source = Path("artifacts") / RUN / "models" / name
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float16)
    with atomic_directory(PLACE / name) as folder:
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        (folder / "provenance.json").write_text(json.dumps(trained.provenance, indent=1) + "\n", encoding="utf-8")
    return trained.provenance


def main() -> None:
    """Keep all of them, and describe them."""
    logging.disable_progress_bar()
    rows = []
    for name in NAMES:
        made = keep(name)
        layout = json.loads((PLACE / name / "config.json").read_text(encoding="utf-8"))["longgen"]["layout"]
        layers = f"{layout.count('full')} of {len(layout)}"
        commit = made["git_commit"][:8] + (" with changes" if made["git_dirty"] else "")
        rows.append(
            f"| {name} | {layers} | {found(name)} | {commit} | {made['device']['name']}, {made['date'][:10]} |\n"
        )
    with atomic_file(PLACE / "README.md") as path:
        path.write_text(HEAD + "".join(rows), encoding="utf-8")
    print(f"{PLACE}: {', '.join(NAMES)}")


if __name__ == "__main__":
    run_program(main, "keep_models")
