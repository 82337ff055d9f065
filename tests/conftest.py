"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# Tiny tensors: more threads only wait for each other. Set before torch is imported, and inherited by subprocesses.
os.environ["OMP_NUM_THREADS"] = "1"

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("longgen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("longgen")


def pytest_collection_modifyitems(items):
    """The slowest folders first: several processes end together if what is begun last is short."""
    slowest = ["slurm", "workflow", "training", "modeling"]
    ranks = {name: place for place, name in enumerate(slowest)}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, len(slowest)))
