"""Several processes compute what one computes: loss and gradients of FSDP2 with Ulysses, on the CPU."""

import copy
import json
import signal
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from longgen.attention import PackedDocuments
from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.errors import ConfigError
from longgen.modeling.packing import positions_in_documents
from longgen.pattern import SparsePattern
from longgen.training.batches import Batch
from longgen.training.loss import weighted_loss
from longgen.training.parallel.processes import Processes, join_processes
from longgen.training.parallel.training_module import TrainingModule
from tests.experiments import experiment_file, prepare_base, tiny_settings
from tests.modeling.models import tiny_hybrid
from tests.processes import command, finished, ranks
from tests.waiting import PATIENCE

STAGGERED = SparsePattern(4, 1, 2, 5, staggered=True)
# family, layout, pattern, lengths of packed documents, set-up; a set-up's rows per pass where documents are packed: 1
CASES = [
    ("llama", "middle:1/3", SparsePattern(8, 1, 2, 4), None, {}),
    ("qwen3", "middle:1/3", SparsePattern(8, 1, 3), None, {"recompute": True}),
    ("llama", "heads:1/3", STAGGERED, None, {"recompute": True, "offload_activations": True}),
    ("mistral", "none", STAGGERED, [50, 1, 77], {"recompute": True}),
    ("llama", "middle:1/3", SparsePattern(8, 1, 2, 4), [100, 28], {"offload_parameters": True}),
    ("llama", "all", SparsePattern(8, 1, 2), [100, 28], {}),
]
LENGTH, BATCH = 128, 4


def batches(lengths: list[int] | None, rows: range, size: int) -> list[Batch]:
    """Rows of the same data for any number of processes, so many at a time."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 128, (BATCH, LENGTH + 1), generator=generator)
    weights = torch.rand(BATCH, LENGTH, generator=generator).round(decimals=1)
    packed = None if lengths is None else PackedDocuments.of_lengths(lengths)
    return [
        Batch(tokens[i : i + size, :-1], tokens[i : i + size, 1:], weights[i : i + size], packed)
        for i in range(rows.start, rows.stop, size)
    ]


def alone(model, batch: Batch, total) -> torch.Tensor:
    """The loss without any of the code for several processes."""
    options = {}
    if (packed := batch.packed) is not None:
        options = {"position_ids": positions_in_documents(packed, LENGTH), "packed": packed}
        options["attention_mask"] = torch.ones(1, LENGTH, dtype=torch.bool)
    hidden = model.model(input_ids=batch.inputs, use_cache=False, **options).last_hidden_state
    return weighted_loss(hidden, model.lm_head.weight, batch.targets, batch.weights, total)[0]


def work(rank: int, report, world: int, sequence: int) -> None:
    phase = PhaseSettings(LENGTH, BATCH, 1, 1.0, {"text": 1.0})
    for family, layout, pattern, lengths, options in CASES:
        setup = SetupSettings(world, sequence, 1 if lengths else None, **options)
        processes = join_processes(setup)
        model = tiny_hybrid(family, layout, pattern).double().train()
        reference = copy.deepcopy(model)
        everything = batches(lengths, range(BATCH), 1)
        total = sum(batch.weights.double().sum() for batch in everything)
        expected = sum(alone(reference, batch, total) for batch in everything)
        expected.backward()
        module = TrainingModule(model, processes, TrainingSettings([phase]), setup)
        own = processes.rows(BATCH)
        passes = batches(lengths, own, setup.micro_batch_size or len(own))
        weight = processes.total(sum(module.own_weight(batch).double() for batch in passes)) / world
        losses = [module(batch, weight) for batch in passes]
        for loss in losses:
            loss.objective.backward()
        found = processes.total(sum(loss.loss for loss in losses)) / world
        errors = {"loss": (found - expected).abs() / expected.abs()}
        for (name, parameter), wanted in zip(model.named_parameters(), reference.parameters(), strict=True):
            gradient = parameter.grad.full_tensor()
            errors[name] = (gradient - wanted.grad).abs().max() / wanted.grad.abs().max()
        report((family, layout, {name: float(error) for name, error in errors.items() if not error <= 1e-6}))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("world", "sequence"), [(2, 2), (2, 1), (4, 2)])
def test_loss_and_gradients_equal_those_of_one_process(world, sequence):
    found = ranks(work, world, world, sequence)
    assert len(found) == world * len(CASES)
    assert [failure for failure in found if failure[2]] == []


def test_what_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(ConfigError, match="sequence_parallel is 4: allowed are divisors of the 6 processes"):
        join_processes(SetupSettings(sequence_parallel=4))
    with pytest.raises(ConfigError, match="processes is 8 in the set-up, and 6 are running"):
        join_processes(SetupSettings(8))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device is 'cuda': allowed is cpu, as PyTorch sees no GPU"):
            join_processes(SetupSettings(device="cuda"))
    with pytest.raises(ConfigError, match="batch_size is 3: allowed are multiples of 2"):
        Processes(0, 4, 2).rows(3)
    with pytest.raises(ConfigError, match="length is 127: allowed are multiples of sequence_parallel 2"):
        Processes(0, 4, 2).tokens(127)


def test_rows_and_tokens_are_shared_out_once():
    everyone = [Processes(rank, 4, 2) for rank in range(4)]
    owned = {(row, token) for p in everyone for row in p.rows(6) for token in range(8)[p.tokens(8)]}
    assert len(owned) == 6 * 8
    assert sum(len(p.rows(6)) * len(range(8)[p.tokens(8)]) for p in everyone) == 6 * 8


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
    settings["setups"] = {"shared": {"sequence_parallel": 2}, "alone": {}}  # rows of a base model are not shared
    settings["setup"] = "shared"
    config = experiment_file(tmp_path, settings)
    prepare_base(config)
    return config


def words(config, name: str) -> list[str]:
    """Of `longgen train`."""
    folder = config.parent
    paths = {"--rows": "rows", "--tokenizer": "corpus/tokenizer", "--output": name}
    paths |= {"--result": f"{name}.json", "--checkpoint": f"{name}-checkpoint"}
    options = [word for key, value in paths.items() for word in (key, str(folder / value))]
    return [str(config), "--stage", "base", "--threads", "1", *options]


def torchrun(config, name: str, module: str = "longgen") -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return [*launcher, "-m", module, "train", *words(config, name)]


def losses(config, name: str) -> list[float]:
    return [record["loss"] for record in json.loads((config.parent / f"{name}.json").read_text())["records"]]


@pytest.mark.slow
def test_several_processes_train_as_one_and_take_over_from_each_other(experiment):
    folder = experiment.parent
    finished(command, "train", *words(experiment, "alone"))
    subprocess.run(torchrun(experiment, "both"), check=True, capture_output=True)
    # killed when two processes had written checkpoints, gone on with by one
    words_of_it = torchrun(experiment, "handed", "tests.training.killing")
    killed = subprocess.run(words_of_it, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=PATIENCE)
    assert killed.returncode == -signal.SIGKILL  # and nobody holds the other end of the pipe: its workers have ended
    assert [path.name for path in (folder / "handed-checkpoint").iterdir()] == ["step-00000010"]
    assert not (folder / "handed").exists()
    finished(command, "train", *words(experiment, "handed"))
    wanted = load_file(folder / "alone" / "model.safetensors")
    for name in ("both", "handed"):
        assert losses(experiment, name) == pytest.approx(losses(experiment, "alone"), abs=1e-5)
        found = load_file(folder / name / "model.safetensors")
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
        assert not (folder / f"{name}-checkpoint").exists()
