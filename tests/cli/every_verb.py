"""The verbs, of their registry, for tests of what holds for all of them."""

from __future__ import annotations

from collections.abc import Iterator

from longgen.cli.verbs import VERBS, Verb


def every_verb(verbs: dict[str, Verb] = VERBS, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every verb, of those below others too."""
    for name, verb in verbs.items():
        yield (*before, name)
        yield from every_verb(verb.verbs, (*before, name))
