"""What the profile makes of the site and its environment; no Slurm is needed."""

import os
from pathlib import Path

import pytest
from snakemake.profiles import ProfileConfigFileParser

PROFILE = Path(__file__).parents[2] / "slurm" / "config.yaml"
EVERYWHERE = ["mem_mb=4000 * attempt", "runtime=60 * attempt"]


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The profile as Snakemake reads it, where the only command is a sacct that ends with ``code``, or none is."""
    for name in [name for name in os.environ if name.startswith("LONGGEN_SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))

    def read(code: int | None = None) -> dict:
        if code is not None:
            (tmp_path / "sacct").write_text(f"#!/bin/sh\nexit {code}\n")
            (tmp_path / "sacct").chmod(0o755)
        with PROFILE.open() as file:
            return ProfileConfigFileParser().parse(file)

    return read


@pytest.mark.parametrize(("code", "command"), [(None, "squeue"), (1, "squeue"), (0, "sacct")])
def test_sacct_is_asked_only_where_it_answers(read, code, command):
    assert read(code)["slurm-status-command"] == command


def test_what_is_the_sites_comes_from_the_environment_and_is_no_expression(read, monkeypatch):
    assert read()["default-resources"] == EVERYWHERE
    assert read()["slurm-init-seconds-before-status-checks"] == "40"
    for name, value in {"ACCOUNT": "1234", "PARTITION": "all", "QOS": "", "CONSTRAINT": "a&b", "POLL": "5"}.items():
        monkeypatch.setenv(f"LONGGEN_SLURM_{name}", value)
    found = read()
    assert found["default-resources"] == [
        *EVERYWHERE,
        "slurm_account='1234'",
        "slurm_partition='all'",
        "constraint='a&b'",
    ]
    assert found["slurm-init-seconds-before-status-checks"] == "5"


def test_every_line_says_why_it_is_there():
    lines = PROFILE.read_text().splitlines()
    settings = [number for number, line in enumerate(lines) if line[:1].isalpha()]
    assert len(settings) > 10
    assert [lines[number] for number in settings if not lines[number - 1].startswith("#")] == []
