"""Words of keys and lists: the lists that the official scripts take from the package wonderwords."""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Sequence
from importlib import resources

import yaml


@functools.cache
def word_lists() -> dict[str, list[str]]:
    """``nouns``, ``adjectives`` and ``verbs``, sorted."""
    file = resources.files("longgen.evaluation.ruler") / "words.yaml"
    return {name: words.split(", ") for name, words in yaml.safe_load(file.read_text("utf-8")).items()}


class HyphenatedPairs:
    """``sorted({f"{adjective}-{noun}" ...})`` over all pairs, six million of them, without making them.

    Pairs with one adjective stand together, unless another adjective begins with it and a hyphen (``blue``,
    ``blue-eyed``): such adjectives make a group, whose pairs are made and sorted.
    """

    def __init__(self, adjectives: Sequence[str], nouns: Sequence[str]) -> None:
        self._nouns = sorted(set(nouns))
        groups: list[list[str]] = []
        for start in sorted({f"{adjective}-" for adjective in adjectives}):
            if groups and start.startswith(groups[-1][0]):
                groups[-1].append(start)
            else:
                groups.append([start])
        self._starts = [group[0] for group in groups]
        self._group_pairs = {
            number: sorted({start + noun for start in group for noun in self._nouns})
            for number, group in enumerate(groups)
            if len(group) > 1
        }
        sizes = (len(self._group_pairs.get(number, self._nouns)) for number in range(len(groups)))
        self._ends = list(itertools.accumulate(sizes))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> str:
        number = bisect.bisect_right(self._ends, index)
        place = index - (self._ends[number - 1] if number else 0)
        return (
            self._group_pairs[number][place]
            if number in self._group_pairs
            else self._starts[number] + self._nouns[place]
        )


@functools.cache
def keys() -> HyphenatedPairs:
    """All keys and values of type ``words``."""
    return HyphenatedPairs(word_lists()["adjectives"], word_lists()["nouns"])
