"""The surface forms of recall: needles, variables, values and words, as training documents and evaluation write them.

Pass keys follow Mohtashami & Jaggi 2023 (landmark attention) in spirit; the others follow tasks of RULER (Hsieh et al.
2024, arXiv 2404.06654). The exact sentences are our choice: short, so that a byte-level model of a million parameters
can learn them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from longgen.data.synthetic.tokenizer import encode_bytes

VALUE_DIGITS = 5
PART_SEPARATOR = " "  # between the parts of an answer that has several

# Words of four letters, each with another initial (our choice): equal lengths make documents of exact size simple, and
# a model of half a million parameters learns to tell 25 keys by one letter, not hundreds by four.
KEYS = (
    *("acid", "bell", "coal", "duke", "echo", "farm", "gold", "hill", "iron", "jury", "king", "lima", "moon"),
    *("navy", "oval", "pine", "quiz", "rose", "sand", "tree", "unit", "vast", "wind", "yard", "zero"),
)


@dataclass(frozen=True)
class Statement:
    """A sentence of the form prompt + answer + end; asking repeats the prompt, and the answer is what must follow."""

    prompt: np.ndarray
    answer: np.ndarray
    end: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """The whole sentence, uint16."""
        return np.concatenate([self.prompt, self.answer, self.end])

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer) + len(self.end)


def random_value(generator: np.random.Generator) -> str:
    """A value of VALUE_DIGITS decimal digits."""
    return f"{generator.integers(10**VALUE_DIGITS):0{VALUE_DIGITS}d}"


def different_values(generator: np.random.Generator, count: int) -> list[str]:
    """``count`` values like `random_value`'s, no two of them equal."""
    return [f"{value:0{VALUE_DIGITS}d}" for value in generator.choice(10**VALUE_DIGITS, count, replace=False).tolist()]


def pair(key: str, value: str) -> Statement:
    """``KEY is VALUE.`` on a line: the shortest form, for learning to look up at all."""
    return Statement(encode_bytes(f"{key} is "), encode_bytes(value), encode_bytes(".\n"))


def needle(key: str, value: str) -> Statement:
    """``The pass key of KEY is VALUE.`` on a line of its own."""
    return Statement(encode_bytes(f"\nThe pass key of {key} is "), encode_bytes(value), encode_bytes(".\n"))


def chain(names: tuple[str, ...], value: str) -> list[Statement]:
    """``VAR A = VALUE.``, ``VAR B = VAR A.``, ...: every variable assigned from the one before, each on a line."""
    sources = [value, *(f"VAR {name}" for name in names[:-1])]
    return [
        Statement(encode_bytes(f"\nVAR {name} = "), encode_bytes(source), encode_bytes(".\n"))
        for name, source in zip(names, sources, strict=True)
    ]


def variable_value(name: str, value: str) -> Statement:
    """``The value of VAR NAME is VALUE.``: the question of variable tracking, where only digits are an answer."""
    return Statement(encode_bytes(f"\nThe value of VAR {name} is "), encode_bytes(value), encode_bytes(".\n"))


def one_value(key: str, value: str) -> Statement:
    """``A value of KEY is VALUE.`` on a line of its own: one of several, after RULER's niah_multivalue."""
    return Statement(encode_bytes(f"\nA value of {key} is "), encode_bytes(value), encode_bytes(".\n"))


def all_values(key: str, values: list[str]) -> Statement:
    """``The values of KEY are VALUE VALUE ...``: the question, its answer in the order in which they were stated."""
    prompt = encode_bytes(f"\nThe values of {key} are ")
    return Statement(prompt, encode_bytes(PART_SEPARATOR.join(values)), encode_bytes(".\n"))


# How often the words that are asked for occur in a list, over how often each other word does. Our choice; RULER's
# frequent words (fwe) have a zeta distribution, with the three most frequent ones asked for. So close together are
# these that a few dozen words of the list do not tell which they are.
FREQUENCIES = (4, 3, 2)
# With fewer words no word would be less frequent than all of those.
SHORTEST_LIST = sum(FREQUENCIES) + 1


def word_list(generator: np.random.Generator, count: int) -> tuple[list[str], list[str]]:
    """``count`` words of KEYS in random order, and those that occur most often.

    As many different words occur as can, each of them about once for the 4, 3 and 2 times of the common ones.

    Args:
        generator: of all randomness.
        count: at least SHORTEST_LIST.

    Returns:
        the list; and the common words, the most frequent first, no two of them equally frequent.
    """
    words = generator.permutation(len(KEYS))[: count - sum(FREQUENCIES) + len(FREQUENCIES)]
    shares = sum(FREQUENCIES) + len(words) - len(FREQUENCIES)
    counts = [-(-count * frequency // shares) for frequency in FREQUENCIES]  # rounded up: always more than the others
    common, others = words[: len(FREQUENCIES)], words[len(FREQUENCIES) :]
    indices = generator.permutation(np.append(np.repeat(common, counts), np.resize(others, count - sum(counts))))
    return [KEYS[index] for index in indices.tolist()], [KEYS[index] for index in common.tolist()]


def listed_words(words: list[str]) -> np.ndarray:
    """Token ids, uint16, of words in a row, a space after each."""
    return encode_bytes("".join(f"{word} " for word in words))


LISTED_LENGTH = len(listed_words([KEYS[0]]))  # tokens of a word in a list


def common_words(words: list[str]) -> Statement:
    """``The most common words are WORD WORD ...``: the question of a word list, the most frequent word first."""
    prompt = encode_bytes("\nThe most common words are ")
    return Statement(prompt, encode_bytes(PART_SEPARATOR.join(words)), encode_bytes(".\n"))


def haystack(generator: np.random.Generator, text: np.ndarray, length: int) -> np.ndarray:
    """``length`` consecutive tokens of ``text`` from a random place."""
    start = generator.integers(len(text) - length + 1)
    return np.asarray(text[start : start + length])


def insert(hay: np.ndarray, places: np.ndarray, pieces: list[np.ndarray]) -> np.ndarray:
    """``hay`` with ``pieces[i]`` inserted before its token ``places[i]``; equal places keep the order of pieces."""
    order = np.argsort(places, kind="stable")
    parts, last = [], 0
    for index in order:
        parts += [hay[last : places[index]], pieces[index]]
        last = places[index]
    return np.concatenate([*parts, hay[last:]])
