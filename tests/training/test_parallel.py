"""Several processes compute what one computes: loss and gradients of FSDP2 with Ulysses, on the CPU."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from longgen.attention import PackedDocuments
from longgen.errors import ConfigError
from longgen.modeling.packing import positions_in_documents
from longgen.pattern import SparsePattern
from longgen.training.loss import weighted_loss
from longgen.training.parallel.processes import Processes, join_processes
from longgen.training.parallel.step import Trainee
from tests.experiments import experiment_file, tiny_settings
from tests.modeling.models import tiny_hybrid

STAGGERED = SparsePattern(4, 1, 2, 5, staggered=True)
# family, layout, pattern, lengths of packed documents, recompute activations
CASES = [
    ("llama", "middle:1/3", SparsePattern(8, 1, 2, 4), None, False),
    ("qwen3", "middle:1/3", SparsePattern(8, 1, 3), None, True),
    ("llama", "heads:1/3", STAGGERED, None, False),
    ("mistral", "none", STAGGERED, [50, 1, 77], True),
    ("llama", "middle:1/3", SparsePattern(8, 1, 2, 4), [100, 28], False),
]
LENGTH, BATCH = 128, 2


def batch(packed: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 128, (1 if packed else BATCH, LENGTH + 1), generator=generator)
    weights = torch.rand(tokens.shape[0], LENGTH, generator=generator).round(decimals=1)
    return tokens[:, :-1], tokens[:, 1:], weights


def alone(model, inputs, targets, weights, packed) -> torch.Tensor:
    options = {} if packed is None else {"position_ids": positions_in_documents(packed, LENGTH), "packed": packed}
    if packed is not None:
        options["attention_mask"] = torch.ones(1, LENGTH, dtype=torch.bool)
    hidden = model.model(input_ids=inputs, use_cache=False, **options).last_hidden_state
    return weighted_loss(hidden, model.lm_head.weight, targets, weights)[0]


def work(rank: int, world: int, sequence: int, port: int, failures) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world)}
    processes = join_processes(sequence)
    for family, layout, pattern, lengths, recompute in CASES:
        if lengths is not None and processes.data > 1:
            continue  # a packed row is a batch
        model = tiny_hybrid(family, layout, pattern).train()
        reference = copy.deepcopy(model)
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        packed = None if lengths is None else PackedDocuments.of_lengths(lengths)
        inputs, targets, weights = batch(lengths is not None)
        expected = alone(reference, inputs, targets, weights, packed)
        expected.backward()
        rows = processes.rows(len(inputs))
        loss, _, _ = Trainee(model, processes)(inputs[rows], targets[rows], weights[rows], packed)
        loss.backward()
        total = processes.total(loss) / world
        errors = [(total - expected).abs() / expected.abs()]
        for (name, parameter), wanted in zip(model.named_parameters(), reference.parameters(), strict=True):
            gradient = parameter.grad.full_tensor()
            errors.append((gradient - wanted.grad).abs().max() / wanted.grad.abs().max().clamp(min=1e-3))
            if errors[-1] > 1e-4:
                failures.put(f"{family} {layout} rank {rank}: gradient of {name} is off by {errors[-1]:.1e}")
        if errors[0] > 1e-6:
            failures.put(f"{family} {layout} rank {rank}: loss is off by {errors[0]:.1e}")
        failures.put((family, layout, float(max(errors))))
    dist.destroy_process_group()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(("world", "sequence"), [(2, 2), (2, 1), (4, 4), (4, 2)])
def test_loss_and_gradients_equal_those_of_one_process(world, sequence, unused_port):
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    multiprocessing.start_processes(work, (world, sequence, unused_port, failures), world, start_method="spawn")
    found = []
    while not failures.empty():
        found.append(failures.get())
    assert [failure for failure in found if isinstance(failure, str)] == []
    assert len(found) == world * (5 if sequence == world else 3)


def test_what_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(ConfigError, match="sequence_parallel is 4: allowed are divisors of the 6 processes"):
        join_processes(4)
    with pytest.raises(ConfigError, match="batch_size is 3: allowed are multiples of 2"):
        Processes(0, 4, 2).rows(3)
    with pytest.raises(ConfigError, match="length is 127: allowed are multiples of sequence_parallel 2"):
        Processes(0, 4, 2).tokens(127)


def test_rows_and_tokens_are_shared_out_once():
    everyone = [Processes(rank, 4, 2) for rank in range(4)]
    owned = {(row, token) for p in everyone for row in range(6)[p.rows(6)] for token in range(8)[p.tokens(8)]}
    assert len(owned) == 6 * 8
    assert sum(len(range(6)[p.rows(6)]) * len(range(8)[p.tokens(8)]) for p in everyone) == 6 * 8


@pytest.fixture
def experiment(tmp_path):
    settings = tiny_settings()
    phase = {"length": 64, "batch_size": 4, "steps": 30, "learning_rate": 3e-3, "mixture": {"text": 0.5, "pairs": 0.5}}
    settings["base"] = {
        "phases": [phase],
        "optimizer": {"name": "adamw"},
        "checkpoint_every": 10,
        "keep_checkpoints": 2,
    }
    config = experiment_file(tmp_path, settings)
    for stage, output in (("corpus", "corpus"), ("base", "rows")):
        words = ["prepare", str(config), "--stage", stage, "--output", str(tmp_path / output)]
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from longgen.cli import main; main()",
                *words,
                "--corpus",
                str(tmp_path / "corpus"),
            ],
            check=True,
        )
    return config


def training(config, name: str, processes: int) -> list[str]:
    folder = config.parent
    launcher = [sys.executable, "-m", "longgen.training"]
    if processes > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        launcher = [*torchrun, "--standalone", "-m", "longgen.training"]
    paths = {"--rows": "rows", "--tokenizer": "corpus/tokenizer", "--output": name}
    paths |= {"--result": f"{name}.json", "--checkpoint": f"{name}-checkpoint"}
    words = [word for key, value in paths.items() for word in (key, str(folder / value))]
    return [*launcher, str(config), "--stage", "base", "--threads", "1", *words]


def losses(config, name: str) -> list[float]:
    return [record["loss"] for record in json.loads((config.parent / f"{name}.json").read_text())["records"]]


def test_several_processes_train_as_one_and_take_over_from_each_other(experiment):
    folder = experiment.parent
    subprocess.run(training(experiment, "alone", 1), check=True, capture_output=True)
    subprocess.run(training(experiment, "both", 2), check=True, capture_output=True)
    # killed when two processes had written checkpoints, gone on with by one
    process = subprocess.Popen(training(experiment, "handed", 2), stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not list(folder.glob("handed-checkpoint/step-*/progress.json")):
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "handed").exists()
    subprocess.run(training(experiment, "handed", 1), check=True, capture_output=True)
    wanted = load_file(folder / "alone" / "model.safetensors")
    for name in ("both", "handed"):
        assert losses(experiment, name) == pytest.approx(losses(experiment, "alone"), abs=1e-5)
        found = load_file(folder / name / "model.safetensors")
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
        assert not (folder / f"{name}-checkpoint").exists()
