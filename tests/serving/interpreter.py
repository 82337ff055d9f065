"""vLLM's Triton kernels in Triton's interpreter: to be imported before vLLM, in a process of its own."""

from __future__ import annotations

import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import triton.backends
from triton.runtime.interpreter import InterpretedFunction

# vLLM for CPUs replaces its kernels where Triton has no backend for CPUs; the interpreter needs none
triton.backends.backends.setdefault("cpu", triton.backends.Backend(compiler=None, driver=None))


def is_interpreted(kernel: Any) -> bool:
    """Whether a kernel is real, and runs in the interpreter."""
    return isinstance(kernel, InterpretedFunction)
