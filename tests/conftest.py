"""Settings for all tests."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tiny tensors: more threads only wait for each other. Set before torch is imported, and inherited by subprocesses.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("longgen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("longgen")


@pytest.fixture(autouse=True)
def alone():
    """A process group that a test joined is left again: the tests after it in this process are of a single one.

    A command leaves it by ending; `train_extension` and others are called here as functions, and many times.
    """
    yield
    torch = sys.modules.get("torch")  # most tests of files and tables never import it
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """That of the models of bytes, as transformers loads it."""
    from transformers import AutoTokenizer

    from longgen.data.synthetic.tokenizer import save_byte_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_byte_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, and no picture of them, which takes most of the time: for tests of what files there are."""
    from matplotlib.figure import Figure

    monkeypatch.setattr("longgen.reporting.drawing.settle_layout", lambda figure: None)
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).touch())


def pytest_collection_modifyitems(items):
    """The slowest folders first: several processes end together if what is begun last is short."""
    slowest = ["slurm", "workflow", "training", "modeling"]
    ranks = {name: place for place, name in enumerate(slowest)}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, len(slowest)))
