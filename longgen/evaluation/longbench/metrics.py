"""LongBench's metrics (metrics.py of the benchmark), odd corners included: they decide the published numbers.

Each takes a prediction, one right answer and the classes of the set, and returns 0 to 1.
"""

from __future__ import annotations

import difflib
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from longgen.errors import ArtifactError
from longgen.evaluation.longbench.chinese import segment
from longgen.evaluation.longbench.rouge import rouge_l
from longgen.evaluation.protocol import protocol

Metric = Callable[[str, str, Sequence[str]], float]
# how the right answers of the retrieval sets name a paragraph
PARAGRAPH, PARAGRAPH_ZH = r"Paragraph (\d+)", r"段落(\d+)"
_DELETE = str.maketrans("", "", string.punctuation)


def english_words(text: str) -> list[str]:
    """Words in lower case, without ASCII punctuation and articles."""
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_DELETE)).split()


def chinese_words(text: str) -> list[str]:
    """Words as jieba finds them, in lower case, without punctuation and white space."""
    return [word for word in map(without_chinese_marks, segment(text)) if word]


def without_chinese_marks(text: str) -> str:
    """What is left of a text in `chinese_words`: lower case, without punctuation and white space."""
    marks = set(string.punctuation + protocol("longbench")["chinese_punctuation"])
    return "".join(c for c in text.lower() if c not in marks and not c.isspace())


def _f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    common = (Counter(prediction) & Counter(answer)).total()
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(answer)
    return 2 * precision * recall / (precision + recall)


def qa_f1(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """F1 of the bags of English words."""
    return _f1(english_words(prediction), english_words(answer))


def qa_f1_zh(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """F1 of the bags of Chinese words."""
    return _f1(chinese_words(prediction), chinese_words(answer))


def rouge(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """ROUGE-L, see `longgen.evaluation.longbench.rouge`."""
    return rouge_l(prediction, answer)


def rouge_zh(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """ROUGE-L of Chinese words."""
    return rouge_l(" ".join(segment(prediction)), " ".join(segment(answer)), frames=1)


def classification(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """1 / number of classes that the prediction names, if the right one is among them.

    Classes whose name is part of the right one's do not count.
    """
    matches = [name for name in classes if name in prediction]
    for name in matches:  # the benchmark, too, removes from the list that it walks: what follows a removed name is kept
        if name in answer and name != answer:
            matches.remove(name)
    return 1 / len(matches) if answer in matches else 0.0


def count(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """The share of the numbers in the prediction that are the answer."""
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(answer) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """`count` of the paragraph's number."""
    return count(prediction, _number(PARAGRAPH, answer))


def retrieval_zh(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """`count` of the paragraph's number in Chinese."""
    return count(prediction, _number(PARAGRAPH_ZH, answer))


def _number(pattern: str, answer: str) -> str:
    match = re.search(pattern, answer)
    if match is None:
        raise ArtifactError(f"answer {answer!r} names no paragraph: allowed is {pattern}")
    return match[1]


def code_sim(prediction: str, answer: str, classes: Sequence[str] = ()) -> float:
    """Similarity, in whole percent, of the answer with the first line that is no comment and no Markdown.

    It is `fuzz.ratio` of fuzzywuzzy 0.18 as the benchmark's requirements install it: by Python's difflib. Where
    python-Levenshtein is installed besides, fuzzywuzzy gives other numbers.
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    if line == answer:
        return 1.0
    return round(100 * difflib.SequenceMatcher(None, line, answer).ratio()) / 100


METRICS: dict[str, Metric] = {
    "qa_f1": qa_f1,
    "qa_f1_zh": qa_f1_zh,
    "rouge": rouge,
    "rouge_zh": rouge_zh,
    "classification": classification,
    "count": count,
    "retrieval": retrieval,
    "retrieval_zh": retrieval_zh,
    "code_sim": code_sim,
}
