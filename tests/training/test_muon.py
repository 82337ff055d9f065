"""Muon's orthogonal updates on CPUs."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longgen.config import OptimizerSettings
from longgen.training.optimizer import _orthogonal_in_float32, make_optimizers

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # PyTorch's


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_singular_values_are_those_of_the_iteration(shape: tuple[int, int]) -> None:
    grad = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    before = grad.clone()
    ours = _orthogonal_in_float32(grad, COEFFICIENTS, 5, 1e-7)
    exact = _reference(grad.double())
    assert torch.equal(grad, before)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours.double(), exact, atol=1e-5)
    singular = torch.linalg.svdvals(ours)
    assert singular.min() > 0.3 and singular.max() < 1.5


def _reference(grad: torch.Tensor) -> torch.Tensor:
    """The same polynomial of the singular values, by way of them."""
    left, values, right = torch.linalg.svd(grad, full_matrices=False)
    values = values / grad.norm()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag(values) @ right


def test_a_step_on_a_cpu_has_no_product_of_bfloat16(monkeypatch):
    there = inspect.unwrap(torch.optim.Muon.step).__globals__
    monkeypatch.setitem(there, "_zeropower_via_newtonschulz", there["_zeropower_via_newtonschulz"])  # to be put back
    model = torch.nn.Sequential(torch.nn.Linear(12, 8, bias=False), torch.nn.LayerNorm(8))
    muon, _ = make_optimizers(model, OptimizerSettings(name="muon"))
    model(torch.randn(4, 12)).pow(3).sum().backward()
    with Dtypes() as seen:
        muon.step()
    assert torch.float32 in seen.dtypes and torch.bfloat16 not in seen.dtypes


class Dtypes(TorchDispatchMode):
    """Takes note of what every operation computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        self.dtypes |= {each.dtype for each in (result, *args) if isinstance(each, torch.Tensor)}
        return result
