"""Wrong words on the command line: for every verb one line that names the word and what is allowed, exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longgen.cli import main
from longgen.cli.verbs import VERBS, _command
from tests.cli.every_verb import every_verb

Error = Callable[..., str]


@pytest.fixture
def error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Error:
    """What the command says of these words: one line, beside exit code 2 and nothing on standard output."""

    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["longgen", *words])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert (end.value.code, shown.out) == (2, ""), (words, shown)
        assert shown.err.startswith("longgen: error: "), words
        assert len(shown.err.splitlines()) == 1, words
        return shown.err.removeprefix("longgen: error: ").rstrip("\n")

    return said


def command(words: tuple[str, ...]) -> Any:
    """Of Typer, with its parameters."""
    verbs, verb = VERBS, None
    for word in words:
        verb = verbs[word]
        verbs = verb.verbs
    assert verb is not None
    return _command(words, verb)


@pytest.mark.slow
@pytest.mark.parametrize("words", list(every_verb()), ids=" ".join)
def test_every_verb_says_in_one_line_what_is_wrong(words: tuple[str, ...], error: Error, tmp_path: Path) -> None:
    parameters = command(words).params
    assert "--no-such-thing is no option of longgen " in (said := error(*words, "--no-such-thing", "3"))
    assert said.endswith("--help`)")
    a_file = tmp_path / "file"
    a_file.touch()
    options = [each for each in parameters if each.opts[0].startswith("-")]
    for option in options:
        name = option.opts[0]
        assert f"{name}x is no option" in (said := error(*words, f"{name}x"))
        assert f" {name}" in said.partition("did you mean")[2], "the closest is named"
        if "<bool>" in option.display_type(None):
            assert f"{name} is '3': allowed is the option alone" in error(*words, f"{name}=3")
            continue
        assert error(*words, name).startswith(f"{name} is without a value: ")
        kind = option.display_type(None)
        if "int" in kind or "float" in kind:
            assert error(*words, name, "many").startswith(f"{name} is 'many': allowed is a ")
            if "float" in kind:
                assert error(*words, name, "nan").startswith(f"{name} is nan: allowed is a finite number")
        elif "<path>" in kind and option.callback and name != "--config":
            place = f"{a_file}/x"
            assert f"{place}: cannot be written ({a_file} is a file): " in error(*words, name, place)
        elif "|" in kind or (option.callback and "<str>" in kind):
            assert error(*words, name, "none-such").startswith(f"{name} is 'none-such': allowed are ")
    required = [each for each in parameters if each.required]
    if required:
        said = error(*words)
        assert " missing" in said
        assert all(each.opts[0] in said or each.opts[0].upper() in said or each.metavar in said for each in required)
    for each in parameters:
        if each.name == "config":
            given = (["--config"] if each in options else []) + [str(tmp_path / "none.yaml")]
            assert f"{tmp_path / 'none.yaml'} does not exist: give the path of" in error(*words, *given)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trian config/smoke.yaml", "'trian' is no verb of longgen: did you mean train? (see `longgen --help`)"),
        ("xyz", "'xyz' is no verb of longgen: allowed are plan, prepare, "),
        ("predict prompts", "'predict' is no verb of longgen: did you mean longgen benchmark predict? ("),
        ("plan trian", "'trian' is no verb of longgen plan: did you mean train? (see `longgen plan --help`)"),
        ("profile infrence --batch 2", "'infrence' is no verb of longgen profile: did you mean inference? ("),
        ("plan config/smoke.yaml", "'config/smoke.yaml' is no verb of longgen plan: did you mean --config config/smo"),
        ("benchmark --", "Missing command (see `longgen benchmark --help`)"),
        ("--versoin", "--versoin is no option of longgen: did you mean --version? (see `longgen --help`)"),
        ("convert a b c --layout all", "'c' is too much: allowed are SRC DST and options, which begin with -- (see"),
        ("pack config/smoke.yaml -output x", "-output is no option of longgen pack: did you mean --output? ("),
        ("probe m --seed -1", "--seed is '-1': allowed is a whole number >= 0 (see `longgen probe --help`)"),
        ("benchmark score --length 4 --length 4k", "--length is '4k': allowed is a whole number ("),
        ("prepare config/smoke.yaml", "--stage and --output are missing (see `longgen prepare --help`)"),
        ("prepare config/smoke.yaml --output x", "--stage is missing: allowed are corpus, base, extension ("),
        ("prepare config/smoke.yaml --stage base", "--output is missing: folder to make (see `longgen prepare --hel"),
        ("prepare config --stage base", "config is a folder: give the path of a configuration such as config/smoke"),
        ("prepare none --stage bose", "--stage is 'bose': allowed are corpus, base, extension ("),
        ("convert --dtype float8", "--dtype is 'float8': allowed are "),
    ],
)
def test_what_is_said(words: str, said: str, error: Error) -> None:
    assert error(*words.split()).startswith(said)


def test_a_terminal_shows_the_same_line() -> None:
    program = [sys.executable, "-c", "from longgen.cli import main; main()", "plan", "train", "--batch", "many"]
    piped = subprocess.run(program, stderr=subprocess.PIPE, text=True)
    terminal, end = os.openpty()
    shown = subprocess.run(program, stderr=end, stdout=end, env=os.environ | {"COLUMNS": "40"})
    os.close(end)
    text = os.read(terminal, 10_000).decode().replace("\r\n", "\n")
    os.close(terminal)
    assert (piped.returncode, shown.returncode) == (2, 2)
    assert text == piped.stderr
    assert text.startswith("longgen: error: --batch is 'many': allowed is a whole number (see `")
