"""Second step of a run: greedy answers of a model, in shards, each resumable to the sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from longgen.data.tokenization import encode_prompt, encode_text
from longgen.errors import ConfigError
from longgen.evaluation.greedy import until_end
from longgen.evaluation.runs.line_files import append_to, read_lines, write_line
from longgen.evaluation.runs.prompts import PromptFile, prompt_hash
from longgen.evaluation.samples import Sample
from longgen.files import read_json, write_json
from longgen.progress import progress_bar
from longgen.provenance import fingerprint

if TYPE_CHECKING:
    import torch  # whoever scores answers alone does without

ANSWERED_BY = "answered-by.json"
ANSWERED_ON = "answered-on.json"  # the machine of the process that answered last
# Part of who answered: rises with every change of how answers come about, so that older ones are given anew.
# 2: text stays text, nothing follows a prompt, greedy whatever the model's defaults, cut at the end of text.
ANSWERING = 2


@dataclass(frozen=True)
class PromptBatch:
    """Prompts that are answered together.

    Attributes:
        tokens: [rows, tokens] int64.
        mask: [rows, tokens] int64, 0 for padding, which stands left.
        max_new_tokens: of an answer.
        min_new_tokens: so many tokens of an answer are none of those that end it.
        stop: token ids that end an answer besides the model's own.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    max_new_tokens: int
    min_new_tokens: int = 0
    stop: tuple[int, ...] = ()


class GreedyAnswers(NamedTuple):
    """Greedy answers.

    Attributes:
        tokens: [rows, at most max_new_tokens] int64.
        kv_fraction: bytes of the KV cache after the prompts, over those of full attention; None if not measured.
        ends: token ids that end a row. What follows the first of them is filler: other rows of the batch took longer.
    """

    tokens: torch.Tensor
    kv_fraction: float | None = None
    ends: Collection[int] = ()


Generate = Callable[[PromptBatch], GreedyAnswers]


def answers_folder(folder: Path, prompts: PromptFile) -> Path:
    """Where the answers to a file of prompts are, below the folder of a model's answers."""
    return folder / prompts.benchmark / prompts.path.stem


def read_answers(folder: Path) -> dict[str, dict[str, Any]]:
    """Answers by sample id, of all shards, that were given by whom `ANSWERED_BY` says.

    Those of another model, and what a killed process was writing, are left out.
    """
    path = folder / ANSWERED_BY
    by = fingerprint(read_json(path, "longgen benchmark predict")) if path.exists() else None
    shards = sorted(folder.glob("shard-*.jsonl"))
    schema = {"id": str, "prompt": str, "by": str, "prediction": str}
    return {answer["id"]: answer for shard in shards for answer in read_lines(shard, **schema) if answer["by"] == by}


def predict(
    prompts: PromptFile,
    tokenizer: Any,
    generate: Generate,
    identity: dict[str, Any],
    folder: Path,
    shard: int = 0,
    shards: int = 1,
    batch_tokens: int = 0,
    device: torch.device | str = "cpu",
    padding: bool = True,
    machine: dict[str, Any] | None = None,
) -> int:
    """Answer the prompts of a shard that are not answered yet.

    An answer is on disk as soon as its batch is done: a kill loses one batch, which is one sample where
    ``batch_tokens`` is 0. Answers to prompts that changed, and all those of another ``identity``, are given anew.

    Args:
        prompts: of one task at one length.
        tokenizer: of the model; it puts BOS before a prompt if the model wants one (`encode_prompt`).
        generate: the model's greedy continuation.
        identity: plain data that determines the answers besides the prompts: the model's weights, how it computes.
        folder: of this model's answers.
        shard: number of this one, from 0; sample i belongs to shard i modulo ``shards``.
        shards: how many.
        batch_tokens: tokens of a batch, padding included; a longer sample is a batch of its own.
        device: of ``generate``.
        padding: whether prompts of different lengths may be in a batch.
        machine: plain data on what computes, on which no answer depends.

    Returns:
        how many were answered now.

    Raises:
        ConfigError: there is no such shard.
        ArtifactError: another process is at work on it.
    """
    if not 0 <= shard < shards:
        raise ConfigError(f"shard is {shard}: allowed is 0..{shards - 1}")
    identity = identity | {"answering": ANSWERING}
    folder, by = answers_folder(folder, prompts), fingerprint(identity)
    path = folder / f"shard-{shard:05d}-of-{shards:05d}.jsonl"
    with append_to(path, "wait for it, or give another shard") as file:
        write_json(folder / ANSWERED_BY, identity)
        prompt_hashes = {name: answer["prompt"] for name, answer in read_answers(folder).items()}
        own = [sample for number, sample in enumerate(prompts) if number % shards == shard]
        todo = [sample for sample in own if prompt_hashes.get(sample.id) != prompt_hash(sample)]
        write_json(folder / ANSWERED_ON, machine or {})
        with progress_bar(len(own), f"{prompts.benchmark} {prompts.path.stem}", "sample", len(own) - len(todo)) as bar:
            for batch in _batches(todo, tokenizer, batch_tokens, padding):
                texts, fraction = _answers(batch, tokenizer, generate, device)
                for sample, text in zip(batch, texts, strict=True):
                    line = {"id": sample.id, "prompt": prompt_hash(sample), "by": by}
                    write_line(file, line | {"prediction": text, "kv_fraction": fraction})
                file.flush()
                bar.update(len(batch))
    return len(todo)


class _Limits(NamedTuple):
    """What the answers of a batch share."""

    max_new_tokens: int
    min_new_tokens: int
    stop: str | None


def _limits(sample: Sample) -> _Limits:
    stop = sample.meta.get("stop")
    least = sample.meta.get("min_new_tokens", 0 if stop is None else 1)
    return _Limits(sample.max_new_tokens, least, stop)


def _batches(samples: list[Sample], tokenizer: Any, batch_tokens: int, padding: bool) -> Iterator[list[Sample]]:
    """Samples of similar lengths together, the longest first: if memory is short, it is at the start."""
    lengths = {sample.id: len(_prompt(tokenizer, sample)) + sample.max_new_tokens for sample in samples}
    batch: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: -lengths[sample.id]):
        first = batch[0] if batch else sample
        longest = lengths[first.id]
        alike = _limits(sample) == _limits(first) and (padding or lengths[sample.id] == longest)
        if batch and ((len(batch) + 1) * longest > batch_tokens or not alike):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _prompt(tokenizer: Any, sample: Sample) -> list[int]:
    return encode_prompt(tokenizer, sample.prompt, sample.meta.get("special_tokens", False))


def _answers(
    batch: list[Sample], tokenizer: Any, generate: Generate, device: torch.device | str
) -> tuple[list[str], float | None]:
    import torch

    rows = [_prompt(tokenizer, sample) for sample in batch]
    width, pad_token = max(map(len, rows)), tokenizer.pad_token_id or 0
    tokens = torch.tensor([[pad_token] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    limits = _limits(batch[0])
    # as LongBench's pred.py: a text's last token, since tokenizers may put a space before it
    stop = () if limits.stop is None else (encode_text(tokenizer, limits.stop)[-1],)
    greedy_answers = generate(PromptBatch(tokens, mask, limits.max_new_tokens, limits.min_new_tokens, stop))
    answers = [until_end(row, greedy_answers.ends) for row in greedy_answers.tokens.tolist()]
    return [tokenizer.decode(row, skip_special_tokens=True) for row in answers], greedy_answers.kv_fraction
