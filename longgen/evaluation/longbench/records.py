"""LongBench's records, from a local folder, the hub, or the stand-in ones that are shipped."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sized
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from longgen.errors import ArtifactError
from longgen.evaluation.longbench.metrics import PARAGRAPH, PARAGRAPH_ZH, english_words, without_chinese_marks
from longgen.evaluation.longbench.rouge import rouge_words
from longgen.evaluation.protocol import protocol
from longgen.evaluation.sources import checked, hub_dataset, json_lines, require_field

DATASET = "THUDM/LongBench"


@dataclass(frozen=True)
class LongBenchRecord:
    """A record with the keys of the official data.

    Attributes:
        input: question, query or the last example.
        context: the long text.
        answers: all right ones.
        length: of input, context and answers: words, or characters in Chinese.
        dataset: name of the set.
        language: ``en``, ``zh``, or of the code.
        all_classes: of a classification task.
        _id: unique in the set.
    """

    input: str
    context: str
    answers: list[str]
    length: int
    dataset: str
    language: str
    all_classes: list[str] | None
    _id: str

    @property
    def id(self) -> str:
        """Unique in the set."""
        return self._id


def load_records(task: str, data_root: Path | None) -> list[LongBenchRecord]:
    """All records of a set, in the order of its file.

    Args:
        task: a set, with ``_e`` for its version in LongBench-E.
        data_root: a folder that holds ``longbench/<task>.jsonl``; ``hub:`` or ``hub:owner/name[@revision]`` for the
            hub; None for stand-in records, which are no benchmark.

    Raises:
        ArtifactError: a file is missing or cannot be had, or a record is bad.
    """
    if data_root is None:
        name, rows = "stand-in records", _stand_in(task.removesuffix("_e"))
    elif hub := hub_dataset(data_root, DATASET):
        name, rows = f"{hub[0]}, {task}.jsonl", _from_hub(*hub, task)
    else:
        path = data_root / "longbench" / f"{task}.jsonl"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: put the file from the data.zip of {DATASET} (Hugging Face) there")
        with path.open("rb") as file:
            name, rows = str(path), list(json_lines(file, str(path)))
    records: dict[str, LongBenchRecord] = {}
    for place, row in rows:
        record = checked(LongBenchRecord, row, place)
        if record.id in records:
            raise ArtifactError(f"{place}: _id {record.id!r} occurs twice, allowed is once in a set")
        _check(record, task, place)
        records[record.id] = record
    if not records:
        raise ArtifactError(f"{name}: no records")
    return list(records.values())


# What a right answer has to look like for the metric to find it at all; classes are in the record. Either what is left
# of it in the metric must be something (to ROUGE a Chinese full stop is a word, which is in every answer), or it has a
# form.
_ANSWER_WORDS: dict[str, Callable[[str], Sized]] = {
    "qa_f1": english_words,
    "qa_f1_zh": without_chinese_marks,
    "rouge": rouge_words,
    "rouge_zh": without_chinese_marks,
}
_ANSWER_FORMS = {"count": r"^\d+$", "retrieval": PARAGRAPH, "retrieval_zh": PARAGRAPH_ZH}


def _check(record: LongBenchRecord, task: str, place: str) -> None:
    """That a record is of the set, and that some prediction can score.

    Raises:
        ArtifactError: it is not; with file, record and field.
    """
    rules = protocol("longbench")["sets"][task.removesuffix("_e")]
    # records of LongBench-E may have the name of the set with or without its ending
    sets = list(dict.fromkeys([task, task.removesuffix("_e")]))
    require_field(record.dataset in sets, place, "dataset", record.dataset, " or ".join(map(repr, sets)))
    code = rules["language"] == "code"
    of_set = record.language not in ("", "en", "zh") if code else record.language == rules["language"]
    allowed = "a programming language" if code else repr(rules["language"])
    require_field(of_set, place, "language", record.language, f"{allowed}, as in {task}")
    # every set's prompt has it; ``input`` is blank in sets that ask the same of all texts
    require_field(bool(record.context.strip()), place, "context", record.context, "a text that is not blank")
    # it has words, since the context has
    require_field(record.length > 0, place, "length", record.length, "a whole number > 0")
    # the next line of code may well be blank
    answers = record.answers if code else [answer for answer in record.answers if answer.strip()]
    require_field(bool(answers), place, "answers", record.answers, "a list of right answers, one or more with text")
    if rules["metric"] == "classification":
        classes = record.all_classes
        require_field(bool(classes), place, "all_classes", classes, f"the classes of {task}")
        can_score = not set(record.answers).isdisjoint(classes or ())
        require_field(can_score, place, "answers", record.answers, f"one of all_classes, which are {classes!r}")
    elif answer_words := _ANSWER_WORDS.get(rules["metric"]):
        can_score = any(map(answer_words, record.answers))
        allowed = "one or more answers with words, articles and punctuation aside"
        require_field(can_score, place, "answers", record.answers, allowed)
    elif pattern := _ANSWER_FORMS.get(rules["metric"]):
        can_score = all(re.search(pattern, answer) for answer in record.answers)
        require_field(can_score, place, "answers", record.answers, f"text of the form {pattern}")


def _from_hub(dataset: str, revision: str | None, task: str) -> list[tuple[str, Any]]:
    """The set's lines in the archive of the dataset, whose loading script `datasets` no longer runs."""
    from huggingface_hub import hf_hub_download

    try:
        archive = hf_hub_download(dataset, "data.zip", repo_type="dataset", revision=revision)
        with zipfile.ZipFile(archive) as files, files.open(f"data/{task}.jsonl") as file:
            return list(json_lines(file, f"{dataset}, data/{task}.jsonl"))
    except ArtifactError:  # which is a ValueError
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{dataset}: data/{task}.jsonl of data.zip cannot be had ({error})") from None


def _stand_in(task: str) -> list[tuple[str, Any]]:
    """Our own few records, completed: their length is counted as the benchmark counts."""
    text = resources.files("longgen.evaluation.longbench").joinpath("stand_in.yaml").read_text("utf-8")
    task_data = yaml.safe_load(text)[task]
    language = protocol("longbench")["sets"][task]["language"]
    rows = []
    for number, row in enumerate(task_data["records"], 1):
        words = "".join if language == "zh" else " ".join
        whole = words([row["input"], row["context"], *row["answers"]])
        rest = {
            "length": len(whole) if language == "zh" else len(whole.split()),
            "dataset": task,
            "language": task_data.get("language", language),
            "all_classes": task_data.get("all_classes"),
            "_id": f"stand-in-{number}",
        }
        rows.append((f"stand_in.yaml, {task}, record {number}", rest | row))
    return rows
