"""Options that stand for fields of a dataclass, how they are read, and that --help of a verb imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from longgen.cli.options.parameters import (
    FieldsOf,
    OneOf,
    Options,
    Overrides,
    field_help,
    option_names,
    read_options,
    signature,
)
from longgen.errors import ConfigError
from longgen.pattern import SparsePattern
from tests.cli.every_verb import every_verb


@dataclass(frozen=True)
class Oven:
    """What bakes.

    Attributes:
        heat: degrees that it reaches,
            in Celsius. A second sentence.
        fan, light: whether there is one; null: as built.
        fuel: what it burns
        trays: as many as fit.
    """

    heat: int = 180
    fan: bool = True
    light: bool = False
    fuel: Literal["gas", "wood"] = "gas"
    trays: int | None = None

    def __post_init__(self) -> None:
        if self.heat < 1:
            raise ConfigError(f"heat is {self.heat}: allowed is a number >= 1")


@dataclass(frozen=True, kw_only=True)
class Bake(Options):
    """More on baking."""

    bread: Annotated[str, typer.Argument()]
    oven: Annotated[
        Overrides[Oven],
        FieldsOf(
            Oven(heat=200), "heat", "fan", "light", "fuel", panel="Oven", default_texts={"heat": "hot"}, trays="trays"
        ),
    ] = field(default_factory=Overrides)
    topping: Annotated[list[str] | None, typer.Option(help="Repeat for several"), OneOf(("salt", "seeds"))] = None
    minutes: Annotated[int, typer.Option()] = 40
    config: Annotated[Path | None, typer.Option()] = None
    checked: int = field(init=False, default=3)


def bake(*words: str) -> Any:
    """What the command reads from these words; its help."""
    found: list[Any] = []

    def call(context: typer.Context, **values: Any) -> None:
        found.append(read_options(Bake, context, values))

    call.__signature__ = signature(Bake)  # type: ignore[attr-defined]
    call.__annotations__ = {name: each.annotation for name, each in signature(Bake).parameters.items()}
    app = typer.Typer(add_completion=False)
    app.command()(call)
    result = CliRunner().invoke(app, list(words))
    if result.exception:
        raise result.exception
    return found[0] if found else result.output


def test_what_was_given_is_told_from_what_was_not() -> None:
    plain = bake("rye")
    assert (plain.bread, plain.oven, plain.topping, plain.minutes) == ("rye", Overrides({}), None, 40)
    assert plain.explicit == ("bread",)
    some = bake("rye", "--no-fan", "--minutes", "40", "--trays", "2", "--fuel", "wood", "--topping", "salt")
    assert some.explicit == ("bread", "fan", "fuel", "trays", "topping", "minutes"), "in the order of --help"
    assert some.oven.values == {"fan": False, "fuel": "wood", "trays": 2}
    assert some.oven.applied_to(Oven(heat=200)) == Oven(heat=200, fan=False, fuel="wood", trays=2)
    assert some.topping == ["salt"]


def test_help_has_what_the_fields_have() -> None:
    text = " ".join(bake("--help").replace("│", " ").split())
    assert "Degrees that it reaches, in Celsius. [default: (hot)]" in text
    assert "--fan --no-fan" in text
    assert "Whether there is one. [default: fan]" in text
    assert "What it burns: gas, wood. [default: gas]" in text
    assert "Repeat for several: salt, seeds." in text
    assert "--no-light" not in text
    assert "--checked" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fuel", "coal"), "--fuel is 'coal': allowed are gas, wood"),
        (("--topping", "salt", "--topping", "jam"), "--topping is 'jam': allowed are salt, seeds"),
    ],
)
def test_other_values_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        bake("rye", *words)
    assert str(error.value) == message


def test_the_dataclass_refuses_what_it_refuses() -> None:
    with pytest.raises(ConfigError, match="heat is 0: allowed is a number >= 1"):
        bake("rye", "--heat", "0").oven.applied_to(Oven())


def test_beside_a_configuration_its_own_options_alone() -> None:
    bake("rye", "--config", "x").refuse_beside_config("bread", "config")
    with pytest.raises(ConfigError, match="--fan, --minutes given with --config: allowed is one or the other"):
        bake("rye", "--config", "x", "--minutes", "3", "--no-fan").refuse_beside_config("bread", "config")


def test_help_of_a_field_is_of_the_class_that_has_it() -> None:
    @dataclass(frozen=True)
    class Hotter(Oven):
        """No attributes."""

    assert field_help(Hotter, "light") == "Whether there is one."
    assert field_help(SparsePattern, "block_size") == "Tokens per block."
    assert field_help(Oven, "colour") == ""
    assert option_names(["full_layers", "batch"]) == "--full-layers, --batch"


def test_help_of_every_verb_imports_nothing_heavy() -> None:
    every = list(every_verb())
    assert ("profile", "inference") in every
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom longgen.cli import app\n"
        f"for words in {every!r}:\n"
        "    done = CliRunner().invoke(app, [*words, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage: ' in done.output, (words, done.output)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'lm_eval', 'pandas', 'matplotlib'}\n"
        "print('imported', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "imported []\n"
