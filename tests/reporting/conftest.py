from __future__ import annotations

from pathlib import Path

import pytest

from longgen.profiling.inference_records import SLICES, WHOLE
from longgen.reporting.run import Run, open_run
from longgen.reporting.seeds.groups import Group, find_groups
from longgen.reporting.seeds.values import Values, read_values
from tests.reporting import fake_inference, fake_training
from tests.reporting.fake_benchmarks import write_benchmarks
from tests.reporting.fake_kernels import write_kernel_run
from tests.reporting.fake_reductions import write_reductions
from tests.reporting.fake_run import ABLATION, write_run
from tests.reporting.fake_seeds import write_seed


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


@pytest.fixture(scope="session")
def reduced_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An experiment whose full model was evaluated with its KV cache reduced."""
    folder = tmp_path_factory.mktemp("reduced")
    write_reductions(write_run(folder / "smoke"))
    return open_run("smoke", folder)


@pytest.fixture(scope="session")
def model_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Training steps and inference at the true sizes of a model."""
    folder, lengths = tmp_path_factory.mktemp("model"), (8192, 32768, 131072)
    steps = [record for length in lengths for record in fake_training.fake_records(0.02, length=length)]
    fake_training.write_gpu_run(folder / "model", steps)
    whole = [record for length in lengths[:2] for record in fake_inference.fake_records(WHOLE, length)]
    fake_inference.write_gpu_run(folder / "model", whole + fake_inference.fake_records(SLICES, lengths[2]))
    return open_run("model", folder)


@pytest.fixture(scope="session")
def seed_group_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, read only: mini, mini-seed-1 and mini-seed-2, one configuration with three seeds."""
    folder = tmp_path_factory.mktemp("seeds")
    for seed in range(3):
        write_seed(folder / f"mini{f'-seed-{seed}' if seed else ''}", seed)
    return folder


@pytest.fixture(scope="session")
def seed_group(seed_group_folder: Path) -> Group:
    (group,) = find_groups([open_run(path.name, seed_group_folder) for path in sorted(seed_group_folder.iterdir())])
    return group


@pytest.fixture(scope="session")
def seed_values(seed_group: Group) -> Values:
    return read_values(seed_group)
