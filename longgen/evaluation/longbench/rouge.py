"""ROUGE-L at summary level as the package rouge 1.0.1 computes it, which the benchmark uses."""

from __future__ import annotations

from collections.abc import Sequence

# That package walks back through the table by recursion, a call per step, and the benchmark takes the error for a
# score of 0. Python's limit of 1,000 calls leaves this many steps to eval.py.
STEPS = 990


def rouge_l(prediction: str, answer: str, frames: int = 0) -> float:
    """F score of the words in the longest common subsequences of all pairs of sentences.

    Sentences end at a period; a word counts once, however often it occurs. 0 where there are no sentences.

    Args:
        prediction: words separated by white space.
        answer: likewise.
        frames: calls more than for English that the benchmark's code makes before the recursion.
    """
    lcs_words, predictions, answers = set[str](), _sentences(prediction), _sentences(answer)
    for sentence in answers:
        for other in predictions:
            words, steps = _common(sentence, other)
            if steps > STEPS - frames:
                return 0.0
            lcs_words |= words
    if not predictions or not answers:
        return 0.0
    precision, recall = (len(lcs_words) / len(set().union(*sentences)) for sentences in (predictions, answers))
    return 2 * (precision * recall / (precision + recall + 1e-8))


def rouge_words(text: str) -> list[str]:
    """All words of a text, as `rouge_l` takes it apart."""
    return [word for sentence in _sentences(text) for word in sentence if word]


def _sentences(text: str) -> list[list[str]]:
    return [piece.split() or [""] for piece in text.split(".") if piece]


def _common(words: Sequence[str], others: Sequence[str]) -> tuple[set[str], int]:
    """The words of a longest common subsequence, and the steps back through the table that find it."""
    table = [[0] * (len(others) + 1)]
    for word in words:
        above, row = table[-1], [0]
        for column, other in enumerate(others):
            row.append(above[column] + 1 if word == other else max(above[column + 1], row[column]))
        table.append(row)
    common: set[str] = set()
    row_number, column, steps = len(words), len(others), 0
    while row_number and column:
        steps += 1
        if words[row_number - 1] == others[column - 1]:
            row_number, column = row_number - 1, column - 1
            common.add(words[row_number])
        elif table[row_number - 1][column] > table[row_number][column - 1]:  # of several, the package's choice
            row_number -= 1
        else:
            column -= 1
    return common, steps
