"""PyTorch's threads sleep while they wait for work: what a command imports before torch.

Threads of OpenMP wait in a loop otherwise, some milliseconds each time: on a machine with other work they take the
processors from the threads that they wait for. OMP_WAIT_POLICY is read once, when PyTorch loads the library, and is
inherited by the processes that a command starts. What the user has set stays, and a program that imports longgen
decides for itself.
"""

import os

WAIT_POLICY = "OMP_WAIT_POLICY"

os.environ.setdefault(WAIT_POLICY, "PASSIVE")
