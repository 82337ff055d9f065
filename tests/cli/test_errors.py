"""What a user sees who gives a verb the wrong thing: one line that helps, exit code 2, nothing written."""

import subprocess
import sys

import pytest

from tests.experiments import experiment_file


def longgen(*words: object) -> tuple[int, str]:
    command = [sys.executable, "-c", "from longgen.cli import main; main()", *map(str, words)]
    outcome = subprocess.run(command, capture_output=True, text=True)
    return outcome.returncode, outcome.stderr


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
        (
            ["evaluate", "CONFIG", "--variant", "fulll", "--model", "NONE", "--corpus", "NONE", "--output", "OUT"],
            "variant is 'fulll': allowed are full, middle, ends, none",
        ),
        (
            ["evaluate", "CONFIG", "--variant", "full", "--model", "NONE", "--corpus", "NONE", "--output", "OUT"],
            "none has no config.json: `longgen train --stage extension` makes the model",
        ),
        (["profile", "CONFIG", "--variant", "middle", "--output", "OUT"], "'full' must be one"),
        (["profile", "NONE", "--output", "OUT"], "none does not exist: give the path of a configuration"),
    ],
)
def test_errors(words, message, tmp_path):
    places = {"CONFIG": experiment_file(tmp_path), "NONE": tmp_path / "none", "OUT": tmp_path / "out"}
    code, error = longgen(*[places.get(word, word) for word in words])
    assert code == 2
    assert error.startswith("longgen: error: ")
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_help_names_every_verb():
    command = [sys.executable, "-c", "from longgen.cli import main; main()", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    verbs = ("plan", "prepare", "convert", "train", "gates", "evaluate", "profile", "figures", "compare", "publish")
    assert all(verb in text for verb in verbs)
