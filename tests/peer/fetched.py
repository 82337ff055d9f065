"""transformers' test code: fetched from the source archive of the version that is installed, and importable."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path, PurePosixPath

FOLDER = Path(__file__).parents[2] / ".peer-tests"
PACKAGE = "transformers_tests"  # its `tests`, under a name that is not taken
NEEDED = "parameterized==0.9.0"  # what the test code imports beyond our development environment

# What the test code imports and the sdist leaves out. With mixins that are empty, the tests in them do not exist here.
ABSENT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    # arguments that every config takes, with values that are not the defaults
    "utils.test_configuration_utils": {
        "config_common_kwargs": {"return_dict": False, "output_hidden_states": True, "dtype": "float16"}
        | {"architectures": ["SomeModel"], "id2label": {0: "a", 1: "b"}, "problem_type": "regression"}
    },
}


def fetch() -> None:
    """Download and unpack what is not in `FOLDER` yet."""
    version = importlib.metadata.version("transformers")
    done = FOLDER / f"complete-{version}-{NEEDED}"
    if done.exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--target", FOLDER, NEEDED], check=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
        source = ["--no-binary", "transformers", f"transformers=={version}"]
        subprocess.run([*pip, "download", "--no-deps", "--dest", scratch, *source], check=True)
        (archive,) = Path(scratch).glob("*.tar.gz")
        _unpack_tests(archive)
    done.touch()


def _unpack_tests(archive: Path) -> None:
    (FOLDER / PACKAGE).mkdir()
    (FOLDER / PACKAGE / "__init__.py").touch()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            content = tar.extractfile(member)
            if content is not None and path.parent.name == "tests" and path.suffix == ".py":
                (FOLDER / PACKAGE / path.name).write_bytes(content.read())


def make_importable() -> None:
    """Let ``import transformers_tests...`` find what was fetched, and stand-ins for what is absent."""
    sys.path.append(str(FOLDER))
    for name, content in ABSENT.items():
        for part in (name.split(".")[0], name):
            module = sys.modules.setdefault(f"{PACKAGE}.{part}", types.ModuleType(f"{PACKAGE}.{part}"))
        vars(module).update(content)
