"""`longgen benchmark prepare`: the prompts of benchmarks, by their own rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from longgen.cli.options.benchmark import BenchmarkPrepareOptions
from longgen.errors import ConfigError, require
from longgen.evaluation.benchmarks import WITH_DEPTHS, benchmark, check_tasks
from longgen.evaluation.runs.prompts import PromptFile, PromptSource, check_prompts, write_index, write_prompts
from longgen.foreign import first_line
from longgen.progress import progress_bar
from longgen.provenance import fingerprint


def benchmark_prepare(options: BenchmarkPrepareOptions) -> None:
    """Write the prompts that are not there yet, and say how many there are."""
    name, suite = options.name, options.settings()
    definition, depths = benchmark(name), suite.depths
    tasks = check_tasks(definition, suite.tasks or [])
    check_tasks(definition, list(suite.task_samples))
    require(not depths or name in WITH_DEPTHS, "--depth", depths, f"with {' and '.join(WITH_DEPTHS)} alone")
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
        suite.task_samples,
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
