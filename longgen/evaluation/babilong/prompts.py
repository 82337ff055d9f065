"""BABILong's prompts: the task's instruction and examples, the text with the facts in it, the question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longgen.data.tokenization import encode_prompt
from longgen.evaluation.babilong.generator import GeneratedRecords
from longgen.evaluation.babilong.records import CONFIGS, FOLDER, BabilongRecord, load_records
from longgen.evaluation.babilong.stand_in import stand_in_records
from longgen.evaluation.babilong.stories import FOLDER as STORIES
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.sources import choose
from longgen.strict import require

TASKS: tuple[str, ...] = tuple(protocol("babilong")["tasks"])


def prompt_of(task: str, context: str, question: str) -> str:
    """The default prompt of the benchmark: with instruction, examples and post-prompt, without a chat template."""
    strings = protocol("babilong")["tasks"][task]
    parts = {name: strings[name] for name in ("instruction", "examples", "post_prompt")}
    return protocol("babilong")["template"].format(context=context.strip(), question=question, **parts).strip()


def prepare(
    task: str, length: int | None, count: int | None, tokenizer: Any, seed: int, data_root: Path | None = None
) -> Iterator[Sample]:
    """Prompts of a task at one length.

    Args:
        task: one of `TASKS`.
        length: one of `CONFIGS`, the benchmark's lengths in tokens (4096 is its ``4k``); 0 or None: facts alone. The
            benchmark's own texts have that many thousand tokens of GPT-2 less 300, and are used as they are. Texts made
            here, of stand-ins or of bAbI and books, are made so that prompt and answer fit, in tokens of ``tokenizer``;
            with bAbI and books any length will do that a story fits.
        count: records, chosen by ``seed``; None for all.
        tokenizer: a fast Hugging Face tokenizer.
        seed: of the choice, and of texts made here.
        data_root: see `longgen.evaluation.babilong.records.load_records`; a folder without finished texts, but with
            ``babi/`` and ``books/``, to make them (`longgen.evaluation.babilong.generator`); None for stand-in records,
            which are no benchmark.

    Returns:
        samples; ``meta`` has ``stand_in``, ``config`` and ``question``, and ``generated`` where bAbI's stories were
        hidden in books here.

    Raises:
        ConfigError: there is no such task, length or count, or no story fits the length.
        ArtifactError: data is missing or bad.
    """
    require(task in TASKS, "task", task, f"one of {', '.join(TASKS)}")
    generated = data_root is not None and not (data_root / FOLDER).is_dir() and (data_root / STORIES).is_dir()
    allowed = ", ".join(f"{tokens} ({name})" for tokens, name in CONFIGS.items())
    require(generated or (length or 0) in CONFIGS, "length", length, f"one of {allowed}")
    config, limit = CONFIGS.get(length or 0, f"{length}"), protocol("babilong")["max_new_tokens"]

    def size(record: BabilongRecord) -> int:
        return len(encode_prompt(tokenizer, prompt_of(task, record.input, record.question))) + limit

    records: Sequence[BabilongRecord] | GeneratedRecords
    if data_root is None:
        records = stand_in_records(task, length or 0, size, tokenizer, seed)
    elif generated:
        records = GeneratedRecords(task, length or 0, size, tokenizer, seed, data_root)
    else:
        records = load_records(task, config, data_root)

    def sample(index: int) -> Sample:
        record = records[index]
        meta = {"stand_in": data_root is None, "config": config, "question": record.question}
        if generated:
            meta["generated"] = True
        prompt = prompt_of(task, record.input, record.question)
        return Sample("babilong", task, str(index), prompt, [record.target], limit, length, meta)

    if isinstance(records, GeneratedRecords):
        return map(sample, records.choose(count, seed))
    return map(sample, choose(len(records), count, seed))
