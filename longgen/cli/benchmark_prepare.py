"""`longgen benchmark prepare`: the prompts of needle, RULER, BABILong and LongBench, by their own rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from longgen.cli.options.benchmark import SUITE, BenchmarkPrepareOptions
from longgen.errors import ConfigError, require
from longgen.evaluation.benchmarks import benchmark, check_tasks
from longgen.evaluation.runs.prompts import PromptFile, PromptSource, check_prompts, write_index, write_prompts
from longgen.foreign import first_line
from longgen.progress import progress_bar
from longgen.provenance import fingerprint


def benchmark_prepare(options: BenchmarkPrepareOptions) -> None:
    """Write the prompts that are not there yet, and say how many there are."""
    name, suite = options.name, options.suite.applied_to(SUITE)
    definition, depths = benchmark(name), suite.depths
    tasks = check_tasks(definition, suite.tasks or [])
    require(not depths or name == "needle", "--depth", depths, "with needle alone")
    require(all(0 <= each <= 1 for each in depths or []), "--depth", depths, "within 0..1")
    try:
        tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    except Exception as error:  # transformers stumbles anywhere over what is no tokenizer
        raise ConfigError(
            f"--tokenizer is {options.tokenizer!r}: allowed is a folder or a hub id ({first_line(error)})"
        ) from error
    identity = fingerprint([sorted(tokenizer.get_vocab().items()), str(tokenizer.special_tokens_map)])
    source = PromptSource(
        definition,
        suite.samples,
        tokenizer,
        identity,
        options.seed,
        None if suite.data_root is None else Path(suite.data_root),
        options.output,
        {"depths": depths} if depths else {},
    )
    lengths: Sequence[int | None] = suite.lengths or [None]
    check_prompts(source, tasks, lengths)
    prompt_files: list[PromptFile] = []
    with progress_bar(len(tasks) * len(lengths), f"{name} prompts", "file") as bar:
        for each in tasks:
            for tokens in lengths:
                prompt_files.append(write_prompts(source, each, tokens))
                bar.update()
    if options.index is not None:
        write_index(options.index, prompt_files)
    kind = "stand-in data" if any(file.stand_in for file in prompt_files) else "the benchmark's data"
    count = sum(file.samples for file in prompt_files)
    print(f"{options.output / name}: {count:,} prompts in {len(prompt_files)} files, of {kind}")
