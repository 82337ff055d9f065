"""Whether the device that a configuration asks for is there."""

from __future__ import annotations

from longgen.strict import require


def require_gpu(name: str, device: str) -> None:
    """Raise ConfigError if ``device``, which key ``name`` asks for, is cuda and PyTorch sees no GPU."""
    import torch

    require(device != "cuda" or torch.cuda.is_available(), name, device, "cpu, as PyTorch sees no GPU")
