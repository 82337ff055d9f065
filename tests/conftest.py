"""Settings for all tests."""

import os

# Tiny tensors: more threads only wait for each other. Set before torch is imported, and inherited by subprocesses.
os.environ["OMP_NUM_THREADS"] = "1"
