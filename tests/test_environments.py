"""Recipes for containers, conda and GitHub, as far as they can be checked where nothing can run them."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKER, APPTAINER = (ROOT / "containers" / name for name in ("Dockerfile", "longgen.def"))
INSTALL = ROOT / "containers" / "install.sh"
DEBIAN_12 = "debian:bookworm-slim"  # its Python is 3.11


def instructions() -> dict[str, list[str]]:
    """Instruction -> what follows it, of the Dockerfile."""
    found: dict[str, list[str]] = {}
    for line in DOCKER.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest)
    return found


def sections() -> dict[str, str]:
    """Section -> its lines, of the Apptainer definition; the header has no name."""
    _, *parts = re.split(r"^(?:%(\w+)\n|(?=Bootstrap))", APPTAINER.read_text(), flags=re.MULTILINE)
    return {name or "": text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def known_extras(requirement: str) -> set[str]:
    extras = set(re.search(r"\[(.*)\]", requirement)[1].split(","))
    assert extras <= set(PROJECT["optional-dependencies"])
    return extras


def test_both_containers_are_made_the_same_way_from_the_same_image():
    docker, apptainer = instructions(), sections()
    assert set(docker) == {"FROM", "COPY", "RUN", "ENV", "CMD"}
    assert set(apptainer) == {"", "files", "post", "environment", "runscript"}
    assert docker["FROM"] == [DEBIAN_12]
    assert apptainer[""].splitlines() == ["Bootstrap: docker", f"From: {DEBIAN_12}"]
    assert docker["COPY"] == [apptainer["files"]] == [". /opt/longgen"]
    assert docker["RUN"] == [apptainer["post"]] == [f"sh /opt/longgen/{INSTALL.relative_to(ROOT)}"]
    assert [f"export {docker['ENV'][0]}"] == apptainer["environment"].splitlines()
    assert "3.11" in SpecifierSet(PROJECT["requires-python"])


@pytest.mark.parametrize("script", [INSTALL, None], ids=["install.sh", "sections"])
def test_their_scripts_are_shell(script):
    text = script.read_text() if script else "\n".join(v for k, v in sections().items() if k not in ("", "files"))
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_they_install_what_the_pipeline_needs_with_the_pins_that_are_tested():
    (command,) = re.findall(r"pip install (.*)", INSTALL.read_text().replace("\\\n", ""))
    *options, requirement = shlex.split(command)
    assert options[options.index("--constraint") + 1] == "/opt/longgen/constraints.txt"
    assert {"pipeline", "kernels", "data", "eval", "lm-eval"} <= known_extras(requirement)
    copied = {path.name for path in ROOT.iterdir()} - set((ROOT / ".dockerignore").read_text().split())
    assert {"constraints.txt", "pyproject.toml", "longgen", "kernels", "containers"} <= copied


def test_conda_installs_what_make_setup_installs(tmp_path):
    given = yaml.safe_load((ROOT / "environment.yaml").read_text())
    *packages, last = given["dependencies"]
    python = next(Requirement(name.replace("=", "==")) for name in packages if name.startswith("python="))
    assert next(iter(python.specifier)).version in SpecifierSet(PROJECT["requires-python"])
    assert "pip" in packages
    makefile = (ROOT / "Makefile").read_text()
    (setup,) = re.findall(r"/\.complete:(?:.*\n\t)+?.*--constraint (\S+) --editable \"(\S+)\"", makefile)
    assert [f"--constraint {setup[0]}", f"--editable {setup[1]}"] == last["pip"]
    known_extras(setup[1])


def test_github_runs_what_ci_runs_with_pythons_that_are_allowed():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]
    cases = {case["python"]: case["command"] for case in job["strategy"]["matrix"]["include"]}
    assert cases["3.11"] == ".ci/run"
    assert all(python in SpecifierSet(PROJECT["requires-python"]) for python in cases)
    script = (ROOT / ".ci/run").read_text()
    assert all(f"make {target}" in script for target in cases["3.12"].removeprefix("make ").split())
