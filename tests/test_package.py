"""What is installed: the wheel has all of `longgen`, its data and the kernels; and which version it is."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import longgen

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="`build` is not installed: `make setup` does it")
def test_the_wheel_has_the_package_its_data_and_the_kernels(tmp_path):
    source = tmp_path / "source"  # a copy: building writes beside its sources
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("longgen", "kernels"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"longgen-{longgen.__version__}-py3-none-any.whl"
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path.relative_to(ROOT) for path in (ROOT / "longgen").rglob("*") if path.suffix in (".py", ".yaml")]
    files += [Path("longgen") / path.relative_to(ROOT) for path in (ROOT / "kernels").glob("*.py")]
    expected = {path.as_posix() for path in files} | {"longgen/py.typed"}
    assert len(expected) > 200
    assert packed == expected
    runs_alone(wheel, tmp_path)


def runs_alone(wheel: Path, tmp_path: Path) -> None:
    """It plans, converts and has its kernels where it is unpacked, without the sources beside it."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    elsewhere = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path / "installed")}, "text": True}
    program = (
        "import importlib.util, longgen, longgen.cli\n"
        "assert importlib.util.find_spec('triton') is None or importlib.import_module('longgen.kernels')\n"
        "print(longgen.__file__)\n"
        "longgen.cli.main()"
    )
    base = str(ROOT / "examples" / "models" / "full")
    words = ["plan", "--model", "llama2-7b", "--then", "convert", base, str(tmp_path / "hybrid")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, **elsewhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "installed")), done.stdout
    assert "llama2-7b" in done.stdout and (tmp_path / "hybrid" / "model.safetensors").exists()


def test_a_release_is_the_tag_of_its_version_and_in_the_changelog():
    command = ["git", "-C", str(ROOT), "tag", "--points-at", "HEAD", "--list", "v[0-9]*"]
    tags = subprocess.run(command, capture_output=True, text=True).stdout.split()
    if not tags:
        pytest.skip("this commit is no release: it has no tag v...")
    assert tags == [f"v{longgen.__version__}"]
    assert f"## [{longgen.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
