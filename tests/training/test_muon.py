"""Muon's orthogonal updates on processors without products of bfloat16."""

from __future__ import annotations

import pytest
import torch

from longgen.training.optimizer import _orthogonal_in_float32

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
