"""What the device can do at best, measured in the same run: copy bandwidth, and the rate of a large matrix product."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from longgen.profiling.attention.timing import repeat, summary

COPY, PRODUCT = "copy bandwidth", "matrix product"


def measure_limits(device: str, dtype: torch.dtype, tiny: bool = False) -> list[dict[str, Any]]:
    """Records of kind ``device-limits``.

    Args:
        device: to measure.
        dtype: of the matrix product.
        tiny: small sizes, to try the code.

    Returns:
        a record each: bytes read and written per second of a large copy on the device; floating-point operations per
        second of a large matrix product on random numbers.
    """
    count, side = (2**20, 256) if tiny else (2**31, 8192)
    source = torch.randint(-128, 128, (count,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    copy = summary(repeat(lambda: target.copy_(source), device, 0.5))
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = summary(repeat(lambda: left @ right, device, 0.5))
    return [
        {"quantity": COPY, "unit": "bytes per second", "value": 2 * count / copy.seconds, **asdict(copy)},
        {
            "quantity": PRODUCT,
            "unit": "operations per second",
            "value": 2 * side**3 / product.seconds,
            **asdict(product),
        },
    ]
