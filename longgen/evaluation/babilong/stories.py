"""bAbI's stories (Weston et al. 2015, arXiv 1502.05698) from its own files, each with one question."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from longgen.errors import ArtifactError
from longgen.evaluation.babilong.scoring import require_scorable
from longgen.evaluation.sources import require_field

FOLDER = "babi"  # below the data root
LINE = re.compile(r"(\d+) ([^\t]*\S[^\t]*)(?:\t([^\t]*)\t([\d ]*))?")


@dataclass(frozen=True)
class Story:
    """What was told before a question, without other questions.

    Attributes:
        facts: sentences in their order.
        question: as the file has it, with a blank at its end.
        target: the right answer.
    """

    facts: tuple[str, ...]
    question: str
    target: str


def load_stories(task: str, data_root: Path) -> list[Story]:
    """All questions of a task's test file, as the benchmark's ``get_dataset_df`` takes them apart.

    Args:
        task: ``qa1`` .. ``qa20``.
        data_root: a folder that holds ``babi/<task>_<name>_test.txt``, a file of the original data (en-10k).

    Raises:
        ArtifactError: there is no such file, or several; a line is not of bAbI's form, a story does not count its lines
            from 1 one by one, or an answer cannot score.
    """
    paths = sorted((data_root / FOLDER).glob(f"{task}_*_test.txt"))
    if len(paths) != 1:
        file_names = " and ".join(path.name for path in paths) or "none"
        raise ArtifactError(f"{data_root / FOLDER}/{task}_*_test.txt: found {file_names}, allowed is one file of bAbI")
    (path,) = paths
    try:
        lines = path.read_text("utf-8").strip().split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    stories, facts, before = [], list[str](), 0
    for number, line in enumerate(lines, 1):
        place = f"{path}, line {number}"
        match = LINE.fullmatch(line)
        if match is None:
            raise ArtifactError(
                f"{place}: is {line[:80]!r}, allowed is a number and a sentence, or a number and question, answer and "
                "numbers of supporting facts with tabs between them"
            )
        place_in_story, text, answer, _ = match.groups()
        if place_in_story == "1":
            facts, before = [], 0
        consecutive = place_in_story == str(before + 1)
        allowed = "1, where a story begins" + (f", or {before + 1}, the next line of this one" if before else "")
        require_field(consecutive, place, "the number", place_in_story, allowed)
        before += 1
        if answer is None:
            facts.append(text)
            continue
        require_scorable(task, text, answer, place, "the answer")
        stories.append(Story(tuple(facts), text, answer))
    if not stories:
        raise ArtifactError(f"{path} has no questions")
    return stories
