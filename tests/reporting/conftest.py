from __future__ import annotations

from pathlib import Path

import pytest

from longgen.reporting.run import Run, open_run
from tests.reporting.fake_benchmarks import write_benchmarks
from tests.reporting.fake_kernels import write_kernel_run
from tests.reporting.fake_run import ABLATION, write_run


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, read only: smoke (the default variants), whole-ablation (ten); no experiments: kernels-gpu, benchmarked."""
    folder = tmp_path_factory.mktemp("results")
    write_run(folder / "smoke")
    write_run(folder / "whole-ablation", ABLATION)
    write_kernel_run(folder / "kernels-gpu")
    write_benchmarks(folder / "benchmarked")
    return folder


@pytest.fixture(scope="session")
def run(results: Path) -> Run:
    return open_run("smoke", results)


@pytest.fixture(scope="session")
def ablation_run(results: Path) -> Run:
    return open_run("whole-ablation", results)


@pytest.fixture(scope="session")
def kernel_run(results: Path) -> Run:
    return open_run("kernels-gpu", results)


@pytest.fixture(scope="session")
def benchmark_run(results: Path) -> Run:
    return open_run("benchmarked", results)
