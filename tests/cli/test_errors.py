"""What a user sees who gives a verb the wrong thing: one line that helps, exit code 2, nothing written."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from longgen.cli import app, main
from longgen.errors import ConfigError
from longgen.profiling import gpu
from tests.experiments import experiment_file

COMMAND = [sys.executable, "-c", "from longgen.cli import main; main()"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "CONFIG", "--stage", "base", "--output", "OUT"], "--corpus is missing: give the folder made by"),
        (
            ["prepare", "CONFIG", "--stage", "base", "--output", "OUT", "--corpus", "NONE"],
            "none/manifest.json is missing: `longgen prepare CONFIG --stage corpus` makes it",
        ),
        (["convert", "NONE", "OUT"], "none has no config.json: give the folder of a Hugging Face checkpoint"),
        (["convert", "NONE", "OUT", "--variant", "full"], "--config and --variant belong together"),
        (
            [
                *("train", "CONFIG", "--stage", "extension", "--rows", "NONE", "--output", "OUT"),
                *("--result", "OUT", "--checkpoint", "OUT"),
            ],
            "--model and --variant are needed for stage extension",
        ),
        (["profile", "CONFIG", "--variant", "middle", "--output", "OUT"], "'full' must be one"),
        (["profile", "NONE", "--output", "OUT"], "none does not exist: give the path of a configuration"),
        *(
            (
                [*words, "--output", "OUT", "--minutes", minutes],
                f"--minutes is {float(minutes)}: allowed is a finite number",
            )
            for words in (
                ["profile", "train", "--device", "cpu"],
                ["profile", "inference", "--device", "cpu"],
                ["train", "CONFIG", "--stage", "base", "--rows", "NONE", "--result", "OUT", "--checkpoint", "OUT"],
            )
            for minutes in ("nan", "-1", "0", "inf")
        ),
    ],
)
def test_errors(words, message, tmp_path, monkeypatch, capsys):
    places = {"CONFIG": experiment_file(tmp_path), "NONE": tmp_path / "none", "OUT": tmp_path / "out"}
    monkeypatch.setattr(sys, "argv", ["longgen", *(str(places.get(word, word)) for word in words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("longgen: error: ")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("minutes", ["nan", "-1", "0", "inf"])
def test_a_module_refuses_such_minutes_too(minutes, tmp_path):
    with pytest.raises(ConfigError, match=r"^--minutes is .*: allowed is a finite number > 0$"):
        gpu.main(["--device", "cpu", "--output", str(tmp_path / "out"), "--minutes", minutes])
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_process_ends_so_too(tmp_path):
    command = [*COMMAND, "convert", str(tmp_path / "none"), str(tmp_path / "out")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    assert (outcome.returncode, len(outcome.stderr.strip().splitlines())) == (2, 1)


def test_help_names_every_verb():
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    verbs = ("plan", "prepare", "convert", "train", "gates", "benchmark", "profile", "figures", "compare", "publish")
    assert all(verb in text for verb in verbs)


def test_version_and_short_help():
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).output == f"longgen {version('longgen')}\n"
    for words in (
        [],
        ["plan"],
        ["plan", "train"],
        ["convert"],
        ["profile"],
        ["profile", "compare"],
        ["benchmark", "score"],
    ):
        short, long = (runner.invoke(app, [*words, option]) for option in ("-h", "--help"))
        assert short.exit_code == 0
        assert "Usage: " in short.output
        assert short.output == long.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [("pl", "plan"), ("plan --kv-b", "--kv-budget"), ("profile comp", "compare"), ("--vers", "--version")],
)
def test_shells_complete_verbs_and_options(words, expected):
    line = f"longgen {words}"
    asked = {"_LONGGEN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    outcome = CliRunner().invoke(app, [], prog_name="longgen", env=asked)
    assert expected in outcome.output.split()


@pytest.mark.slow
def test_one_process_carries_out_several_commands_to_the_first_that_fails(tmp_path):
    twice = subprocess.run([*COMMAND, "--version", "--then", "--version"], capture_output=True, text=True, check=True)
    assert twice.stdout == 2 * f"longgen {version('longgen')}\n"
    failing = ["convert", str(tmp_path / "none"), str(tmp_path / "out"), "--then", "--version"]
    outcome = subprocess.run([*COMMAND, *failing], capture_output=True, text=True)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert "none has no config.json" in outcome.stderr
