"""These tests run Triton's interpreter, in a process of their own: `make test` sets TRITON_INTERPRET=1 for them."""

import os

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.kernels.interpreter import honest_bfloat16

    @pytest.fixture(autouse=True)
    def _honest_bfloat16():
        with honest_bfloat16():
            yield
