"""The surface forms of recall: needles (pass keys) and variables, as training documents and evaluation write them.

Pass keys follow Mohtashami & Jaggi 2023 (landmark attention) in spirit; variable tracking follows RULER (Hsieh et al.
2024, arXiv 2404.06654). The exact sentences are our choice: short, so that a byte-level model of a million parameters
can learn them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from longgen.data.tokenizer import encode_bytes

VALUE_DIGITS = 5

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


def resolved(name: str, value: str) -> Statement:
    """``The value of VAR NAME is VALUE.``: the question of variable tracking, where only digits are an answer."""
    return Statement(encode_bytes(f"\nThe value of VAR {name} is "), encode_bytes(value), encode_bytes(".\n"))


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
