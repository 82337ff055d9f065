"""LongBench's prompts: the set's template, cut in the middle to fit the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longgen.data.tokenization import encode_prompt
from longgen.evaluation.longbench.records import LongBenchRecord, load_records
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.sources import choose
from longgen.strict import require

SETS: tuple[str, ...] = tuple(protocol("longbench")["sets"])
E_SETS: tuple[str, ...] = tuple(
    f"{name}_e" for name in SETS if protocol("longbench")["sets"][name].get("length_balanced")
)
TASKS = SETS + E_SETS
# By the length of a record, in words or characters: LongBench-E's intervals (eval.py).
BUCKETS = {"0-4k": 4000, "4-8k": 8000, "8k+": None}


def truncate_middle(prompt: str, length: int, tokenizer: Any) -> str:
    """``prompt``, without its middle if it has more than ``length`` tokens (BOS counts, as in pred.py).

    What is left is half of them from the start and half from the end, as text: tokenised again, it can be a few tokens
    longer or shorter.
    """
    tokens = encode_prompt(tokenizer, prompt)
    if len(tokens) <= length:
        return prompt
    half = length // 2
    return "".join(tokenizer.decode(part, skip_special_tokens=True) for part in (tokens[:half], tokens[-half:]))


def bucket(length: int) -> str:
    """LongBench-E's interval of a record's length."""
    return next(name for name, end in BUCKETS.items() if end is None or length < end)


def prepare(
    task: str, length: int | None, count: int | None, tokenizer: Any, seed: int, data_root: Path | None = None
) -> Iterator[Sample]:
    """Prompts for base models: no chat template anywhere.

    Args:
        task: one of `TASKS`; those of LongBench-E end in ``_e``.
        length: the most tokens of a prompt, ``max_length`` of the official configuration (3,500 for a context of 4,096,
            31,500 for 32,768): the answer comes on top. None: nothing is cut.
        count: records, chosen by ``seed``; None for all.
        tokenizer: the model's, a Hugging Face ``PreTrainedTokenizerBase``.
        seed: of the choice.
        data_root: see `longgen.evaluation.longbench.records.load_records`.

    Returns:
        samples; ``meta`` has ``stand_in``, ``language``, ``bucket``, ``truncated``, for classification ``classes``, and
        for samsum ``stop`` (see docs/longbench.md).

    Raises:
        ConfigError: there is no such task, or no such length or count.
        ArtifactError: data is missing or bad.
    """
    require(task in TASKS, "task", task, f"one of {', '.join(TASKS)}")
    require(length is None or length >= 2, "length", length, "2 tokens or more")
    records = load_records(task, data_root)
    subset = [records[index] for index in choose(len(records), count, seed)]
    return (_sample(task, record, length, tokenizer, data_root is None) for record in subset)


def _sample(task: str, record: LongBenchRecord, length: int | None, tokenizer: Any, stand_in: bool) -> Sample:
    rules = protocol("longbench")["sets"][task.removesuffix("_e")]
    whole = rules["prompt"].format(context=record.context, input=record.input)
    prompt = whole if length is None else truncate_middle(whole, length, tokenizer)
    meta = {
        "stand_in": stand_in,
        "language": record.language,
        "bucket": bucket(record.length),
        "truncated": prompt != whole,
    }
    if record.all_classes:
        meta["classes"] = record.all_classes
    if "stop" in rules:
        meta["stop"] = rules["stop"]
    return Sample("longbench", task, record.id, prompt, record.answers, rules["max_new_tokens"], length, meta)
