"""Facts to be looked up: sentences that state something, the question for it, and the answer.

For pretrained models: long-range look-up is trained on them (`longgen.data.packing.lookups`) and probed with them
(`longgen probe`). All wordings are our choice, and none is of a benchmark: RULER's "special magic number", the needles
of Kamradt and of pass keys, and bAbI's stories do not occur, so that neither training nor probe is tuned to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from longgen.errors import ConfigError

_NAMES = (
    *("Adele", "Alvaro", "Anton", "Beatriz", "Boris", "Camille", "Cedric", "Chiara", "Dalia", "Dmitri", "Edith"),
    *("Emeka", "Esther", "Farid", "Fiona", "Gustav", "Hanna", "Hiro", "Ingrid", "Ivan", "Jasmin", "Jorge", "Kaito"),
    *("Karin", "Leila", "Linus", "Lucia", "Magnus", "Maren", "Mateo", "Nadia", "Nils", "Odette", "Oscar", "Paloma"),
    *("Pavel", "Priya", "Quentin", "Rafael", "Rosa", "Selma", "Sven", "Tamara", "Tobias", "Ulrich", "Vera", "Viktor"),
    *("Wanda", "Xenia", "Yusuf", "Zelda", "Zoltan"),
)
_OBJECTS = (
    *("anchor", "banner", "barrel", "basket", "bell", "blanket", "bottle", "bridle", "bucket", "candle", "carpet"),
    *("chest", "clock", "compass", "crate", "cupboard", "drum", "easel", "feather", "fiddle", "flute", "goblet"),
    *("hammer", "harness", "helmet", "ink pot", "kettle", "ladder", "lamp", "lantern", "ledger", "locket", "loom"),
    *("mirror", "needlework", "oar", "parasol", "pendulum", "piano", "pillow", "plough", "quilt", "rope", "saddle"),
    *("sail", "scales", "sextant", "shovel", "spindle", "stool", "suitcase", "tapestry", "teapot", "telescope"),
    *("trumpet", "trunk", "umbrella", "vase", "violin", "wagon", "wardrobe", "wheelbarrow", "whistle", "windmill"),
)
_ADJECTIVES = (
    *("amber", "ancient", "blue", "brass", "broken", "carved", "copper", "crimson", "dusty", "engraved", "faded"),
    *("gilded", "green", "heavy", "iron", "ivory", "lacquered", "little", "marble", "narrow", "oaken", "painted"),
    *("plain", "polished", "purple", "round", "rusty", "scarlet", "silver", "striped", "tall", "velvet", "wooden"),
)
_CITIES = (
    *("Aarhus", "Antwerp", "Bergen", "Bologna", "Bremen", "Cádiz", "Cork", "Cracow", "Dakar", "Delft", "Dresden"),
    *("Geneva", "Ghent", "Granada", "Hanoi", "Izmir", "Kyoto", "Lagos", "Lima", "Lisbon", "Lyon", "Malmö", "Manila"),
    *("Nairobi", "Naples", "Odessa", "Porto", "Prague", "Quito", "Riga", "Seville", "Tallinn", "Trieste", "Tunis"),
    *("Turin", "Utrecht", "Valencia", "Vienna", "Warsaw", "Zagreb"),
)
_FIELDS = (
    *("batch_limit", "buffer_rows", "cache_slots", "delay_ticks", "drift_bound", "frame_budget", "grid_width"),
    *("hash_offset", "idle_rounds", "index_depth", "lease_period", "max_nodes", "page_quota", "poll_window"),
    *("queue_depth", "retry_budget", "scan_stride", "seed_value", "slot_count", "spill_size", "start_page"),
    *("tile_height", "token_ceiling", "trace_level", "worker_cap"),
)


_MOST_TRIES = 50  # for a fact: so many of one subject mean that there are no others


@dataclass(frozen=True)
class Fact:
    """Something that a text states, and a question for it.

    Attributes:
        subject: what it is about: two facts with one subject could contradict each other.
        statements: to be scattered in a text in this order; all of them are needed.
        question: for the answer; it names its subject, and the answer follows it.
        answer: begins with a space.
        end: what closes the answer.
    """

    subject: tuple[str, ...]
    statements: tuple[str, ...]
    question: str
    answer: str
    end: str = ".\n"


def _pick(generator: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(generator.integers(len(words)))]


def _several(generator: np.random.Generator, words: Sequence[str], count: int) -> list[str]:
    return [words[index] for index in generator.choice(len(words), size=count, replace=False).tolist()]


def _digits(generator: np.random.Generator) -> str:
    return "".join(map(str, generator.integers(10, size=int(generator.integers(4, 8))).tolist()))


def _item(generator: np.random.Generator) -> str:
    return f"{_pick(generator, _ADJECTIVES)} {_pick(generator, _OBJECTS)}"


def number(generator: np.random.Generator) -> Fact:
    """A number of four to seven digits that a thing of somebody's has."""
    who, item, value = _pick(generator, _NAMES), _item(generator), _digits(generator)
    statements = (
        f"On the {item} of {who} somebody had painted the number {value}.",
        f"{who}'s {item} is entered in the register under {value}.",
        f"They gave {who} {value} crowns for the {item}.",
        f"Number {value} in the catalogue is the {item} that belongs to {who}.",
    )
    questions = (
        f"\nThe number that goes with the {item} of {who} is",
        f"\nQ: Which number goes with {who}'s {item}?\nA:",
        f"\nFor the {item} of {who} the text gives the number",
    )
    return Fact(("number", who, item), (_pick(generator, statements),), _pick(generator, questions), f" {value}")


def place(generator: np.random.Generator) -> Fact:
    """The city in which somebody's thing is."""
    who, item, city = _pick(generator, _NAMES), _item(generator), _pick(generator, _CITIES)
    statements = (
        f"The {item} of {who} was left behind in {city}.",
        f"{who} had the {item} sent to {city}.",
        f"In {city} one can still see the {item} that {who} made.",
    )
    questions = (
        f"\nThe city where the {item} of {who} can be found is",
        f"\nQ: In which city is {who}'s {item}?\nA:",
    )
    return Fact(("place", who, item), (_pick(generator, statements),), _pick(generator, questions), f" {city}")


def words(generator: np.random.Generator) -> Fact:
    """Three words that somebody chose."""
    who, city = _pick(generator, _NAMES), _pick(generator, _CITIES)
    phrase = " ".join(_several(generator, [*_ADJECTIVES, *_OBJECTS], 3))
    statements = (
        f'{who} of {city} always answered the door with the words "{phrase}".',
        f'On the coat of arms of {who} of {city} stands "{phrase}".',
    )
    questions = (
        f"\nThe words of {who} of {city} are",
        f"\nQ: Which words go with {who} of {city}?\nA:",
    )
    subject = ("words", who, city)
    return Fact(subject, (_pick(generator, statements),), _pick(generator, questions), f' "{phrase}"')


def setting(generator: np.random.Generator) -> Fact:
    """The value of a constant in source code."""
    name, value = f"{_pick(generator, _FIELDS)}_{int(generator.integers(10, 100))}", _digits(generator)
    return Fact(("setting", name), (f"\n{name} = {value}\n",), f"\nassert {name} ==", f" {value}", "\n")


def chain(generator: np.random.Generator) -> Fact:
    """Two statements of which the second refers to the first: who shares a number with whom."""
    (first, second), city = _several(generator, _NAMES, 2), _pick(generator, _CITIES)
    value = _digits(generator)
    statements = (
        f"In {city} the house of {first} has the number {value}.",
        f"In {city} {second} lives in the house of {first}.",
    )
    question = f"\nThe house in {city} where {second} lives has the number"
    # a city has one such house, else one person could live in two
    return Fact(("chain", city), statements, question, f" {value}")


def items(generator: np.random.Generator) -> Fact:
    """Two to four things, each in a sentence of its own, all of them asked for in their order."""
    who, city = _pick(generator, _NAMES), _pick(generator, _CITIES)
    things = _several(generator, _OBJECTS, int(generator.integers(2, 5)))
    statements = tuple(f"{who} of {city} bought a thing at the fair, the {thing}." for thing in things)
    question = f"\nAt the fair {who} of {city} bought:"
    return Fact(("items", who, city), statements, question, f" {', '.join(things)}")


def table(generator: np.random.Generator) -> Fact:
    """A line of a list of four to twelve others of its form."""
    city, count = _pick(generator, _CITIES), int(generator.integers(4, 13))
    names, values = _several(generator, _NAMES, count), [_digits(generator) for _ in range(count)]
    lines = "".join(f"{name}: {value}\n" for name, value in zip(names, values, strict=True))
    line = int(generator.integers(count))
    title = f"Passengers to {city}, with their tickets"
    question = f"\nTicket of {names[line]} in the list of passengers to {city}:"
    return Fact(("table", city), (f"\n\n{title}\n{lines}\n",), question, f" {values[line]}", "\n")


KINDS: dict[str, Callable[[np.random.Generator], Fact]] = {
    "number": number,
    "place": place,
    "words": words,
    "setting": setting,
    "chain": chain,
    "items": items,
    "table": table,
}


def make_facts(generator: np.random.Generator, count: int, kinds: Sequence[str] | None = None) -> list[Fact]:
    """``count`` facts about different subjects.

    Args:
        generator: of all randomness.
        count: >= 0.
        kinds: names in `KINDS` to draw from, equally often; None: all.

    Raises:
        ConfigError: an unknown kind, or there are not so many subjects.
    """
    names = list(KINDS) if kinds is None else list(kinds)
    for name in names:
        if name not in KINDS:
            raise ConfigError(f"kind of fact is {name!r}: allowed are {', '.join(KINDS)}")
    facts: dict[tuple[str, ...], Fact] = {}
    tries = 0
    while len(facts) < count:
        fact = KINDS[_pick(generator, names)](generator)
        facts.setdefault(fact.subject, fact)
        tries += 1
        if tries > _MOST_TRIES * count:
            raise ConfigError(f"{count} facts are wanted of {', '.join(names)}: allowed is about {len(facts)}")
    return list(facts.values())
