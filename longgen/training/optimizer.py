"""Optimizers by name, and the learning-rate schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import torch

from longgen.config import OptimizerSettings, PhaseSettings


def _split_parameters(model: torch.nn.Module) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Weight matrices of the layers, and the rest (embeddings, head, norms), as far as they are trained."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name
        (matrices if is_matrix else rest).append(parameter)
    return matrices, rest


def _adamw(model: torch.nn.Module, settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    matrices, rest = _split_parameters(model)
    betas = (settings.betas[0], settings.betas[1])
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return [torch.optim.AdamW(groups, betas=betas, fused=True)]


def _orthogonal_in_float32(
    grad: torch.Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> torch.Tensor:
    """Muon's Newton-Schulz iteration (Jordan 2024) in float32, for CPUs.

    PyTorch's is in bfloat16 whatever the processor: most of a training step of a small model where the processor has
    no such products, and other weights than on one that has them.
    """
    a, b, c = ns_coefficients
    wide = grad.shape[0] <= grad.shape[1]
    x = grad.float() if wide else grad.float().T
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def _muon(model: torch.nn.Module, settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, with updates scaled to AdamW's size so that one learning rate serves both."""
    matrices, rest = _split_parameters(model)
    betas = (settings.betas[0], settings.betas[1])
    if matrices[0].device.type == "cpu":
        # PyTorch offers no choice. What a class says of its module is where it is to be imported from: the function
        # knows where it looks names up. Where a version of PyTorch calls this otherwise, its own goes on.
        inspect.unwrap(torch.optim.Muon.step).__globals__["_zeropower_via_newtonschulz"] = _orthogonal_in_float32
    return [
        torch.optim.Muon(matrices, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=betas, weight_decay=0.0, fused=True),
    ]


OPTIMIZERS: dict[str, Callable[[torch.nn.Module, OptimizerSettings], list[torch.optim.Optimizer]]] = {
    "adamw": _adamw,
    "muon": _muon,
}


def make_optimizers(model: torch.nn.Module, settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """The optimizers that together update all trained parameters of ``model``."""
    return OPTIMIZERS[settings.name](model, settings)


def learning_rate(phase: PhaseSettings, step: int) -> float:
    """Learning rate of ``step`` (from 0) of a phase: linear warm-up, constant, and decay over the last steps."""
    warmup = min(1.0, (step + 1) / phase.warmup_steps) if phase.warmup_steps else 1.0
    remaining = min(1.0, (phase.steps - step) / phase.decay_steps) if phase.decay_steps else 1.0
    if phase.decay == "cosine":
        remaining = (1 - math.cos(math.pi * remaining)) / 2
    final = phase.final_learning_rate_ratio
    return phase.learning_rate * warmup * (final + (1 - final) * remaining)
