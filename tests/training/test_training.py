"""Parts of the training loop: loss, schedule, optimizers, checkpoints."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from longgen.config import OptimizerSettings, PhaseSettings
from longgen.errors import ArtifactError
from longgen.records.experiment import TrainingRecord
from longgen.training import loss as loss_module
from longgen.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from longgen.training.loss import weighted_loss
from longgen.training.optimizer import OPTIMIZERS, learning_rate, make_optimizers
from tests.modeling.models import tiny_base, tokens


def _plain_loss(hidden, head, targets, weights):
    plain = F.cross_entropy((hidden @ head.T).flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    return (plain * weights).sum() / weights.sum()


def _loss_inputs(vocabulary, size, dtype):
    hidden = torch.randn(2, 30, size, dtype=dtype, requires_grad=True)
    head = torch.randn(vocabulary, size, dtype=dtype, requires_grad=True)
    targets, weights = torch.randint(vocabulary, (2, 30)), torch.rand(2, 30) * 3
    weights[0, :9] = 0
    return hidden, head, targets, weights


@pytest.mark.parametrize("chunk", [7, 4096])
@pytest.mark.parametrize("rows", [2, 1000])
def test_loss_equals_the_plain_formula_and_its_gradients(chunk, rows, monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK_TOKENS", chunk)
    monkeypatch.setattr(loss_module, "CPU_BLOCK", rows * 11 * 8)
    hidden, head, targets, weights = _loss_inputs(11, 8, torch.float64)
    weights = weights.double()
    loss, right, answers = weighted_loss(hidden, head, targets, weights)
    expected = _plain_loss(hidden, head, targets, weights)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    # of what the loss is part of
    got = torch.autograd.grad(3 * loss, (hidden, head))
    for gradient, want in zip(got, torch.autograd.grad(3 * expected, (hidden, head)), strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-10, atol=1e-13)
    hits = ((hidden @ head.T).argmax(-1) == targets)[weights > 1]
    assert (int(right), int(answers)) == (int(hits.sum()), len(hits))
    with torch.no_grad():
        assert weighted_loss(hidden, head, targets, weights)[0] == loss
    frozen = weighted_loss(hidden, head.detach(), targets, weights)[0]
    torch.testing.assert_close(torch.autograd.grad(frozen, hidden)[0] * 3, got[0])


def test_loss_in_bfloat16_adds_up_in_float32(monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK_TOKENS", 2)  # 26 chunks: in bfloat16 their sum would be off by percents
    hidden, head, targets, weights = _loss_inputs(64, 32, torch.bfloat16)
    loss, _, _ = weighted_loss(hidden, head, targets, weights)
    wide = [tensor.detach().double().requires_grad_() for tensor in (hidden, head)]
    expected = _plain_loss(*wide, targets, weights.double())
    # scores are rounded to bfloat16 once
    assert loss.dtype == torch.float32 and float(loss) == pytest.approx(float(expected), rel=3e-3)
    for gradient, want in zip(
        torch.autograd.grad(loss, (hidden, head)), torch.autograd.grad(expected, wide), strict=True
    ):
        assert gradient.dtype == torch.bfloat16
        assert (gradient.double() - want).norm() < 0.01 * want.norm()


def test_learning_rate_warms_up_stays_and_decays():
    phase = PhaseSettings(8, 1, 10, 2.0, {"text": 1.0}, warmup_steps=4, decay_steps=4, final_learning_rate_ratio=0.5)
    rates = [learning_rate(phase, step) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 1.75, 1.5, 1.25])
    constant = dataclasses.replace(phase, warmup_steps=0, decay_steps=0)
    assert {learning_rate(constant, step) for step in range(10)} == {2.0}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_update_every_parameter_once(name):
    model = tiny_base()
    optimizers = make_optimizers(model, OptimizerSettings(name))
    owned = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def _trained(name: str, steps: int):
    model = tiny_base()
    optimizers = make_optimizers(model, OptimizerSettings(name))
    for step in range(steps):
        _one_step(model, optimizers, step)
    return model, optimizers


def _one_step(model, optimizers, step):
    x = tokens(20, seed=step)
    model(x, labels=x, use_cache=False).loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


PLACE = {"stage": "base", "phase": 0, "step": 3, "length": 64, "tokens": 192, "learning_rate": 1e-3}
TIME = {"seconds": 1.5, "tokens_per_second": 128.0}
RECORD = TrainingRecord(**PLACE, loss=2.0, answer_accuracy=None, **TIME)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_checkpoint_restores_weights_and_optimizer_to_the_bit(name, tmp_path):
    model, optimizers = _trained(name, 3)
    save_checkpoint(tmp_path / "c", model, optimizers, Progress("print", 3, 1.5, [RECORD]))
    fresh = tiny_base()
    fresh_optimizers = make_optimizers(fresh, OptimizerSettings(name))
    progress = load_checkpoint(tmp_path / "c", fresh, fresh_optimizers, "print")
    assert progress == Progress("print", 3, 1.5, [RECORD])
    _one_step(model, optimizers, 3)
    _one_step(fresh, fresh_optimizers, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True))


def test_checkpoint_of_another_run_is_not_used_and_a_damaged_one_is_named(tmp_path):
    model, optimizers = _trained("adamw", 1)
    save_checkpoint(tmp_path / "c", model, optimizers, Progress("print", 1, records=[RECORD]))
    assert load_checkpoint(tmp_path / "c", model, optimizers, "other") == Progress("other")
    assert load_checkpoint(tmp_path / "none", model, optimizers, "print") == Progress("print")
    (file,) = (tmp_path / "c" / "step-00000001").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"step-00000001 is damaged .*: delete it"):
        load_checkpoint(tmp_path / "c", model, optimizers, "print")
    progress = file.with_name("progress.json")
    progress.write_text(progress.read_text().replace('"loss"', '"los"'))
    with pytest.raises(ArtifactError, match=r"step-00000001 is damaged \(.*'los'.*\): delete it"):
        load_checkpoint(tmp_path / "c", model, optimizers, "print")


def test_the_last_checkpoints_are_kept_and_the_latest_is_loaded(tmp_path):
    model, optimizers = _trained("adamw", 1)
    (tmp_path / ".unfinished-00000009").mkdir()  # as a killed run leaves it
    for step in (8, 9, 10, 11):
        save_checkpoint(tmp_path, model, optimizers, Progress("print", step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000011"]
    assert load_checkpoint(tmp_path, model, optimizers, "print").step == 11


def test_checkpoints_of_another_run_do_not_displace_those_of_this_one(tmp_path):
    model, optimizers = _trained("adamw", 1)
    for step in (40, 50):
        save_checkpoint(tmp_path, model, optimizers, Progress("edited since", step), keep=2)
    assert load_checkpoint(tmp_path, model, optimizers, "print").step == 0
    save_checkpoint(tmp_path, model, optimizers, Progress("print", 10), keep=2)
    save_checkpoint(tmp_path, model, optimizers, Progress("print", 20), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000020"]
    assert load_checkpoint(tmp_path, model, optimizers, "print").step == 20
