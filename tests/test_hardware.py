"""What computes where bfloat16 is asked for on a CPU without instructions for it."""

from __future__ import annotations

import pytest
import torch

from longgen import hardware
from longgen.cli.machine import on_this_machine, torch_dtype
from longgen.config import load_experiment


@pytest.mark.parametrize(("able", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_bfloat16_computes_where_the_processor_can(
    able: bool, dtype: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "computes_in_bfloat16", lambda: able)
    assert torch_dtype("bfloat16", "cpu") is getattr(torch, dtype)
    assert ("no instructions for bfloat16: float32 computes instead" in capsys.readouterr().err) is not able
    assert torch_dtype("bfloat16", "cuda") is torch.bfloat16
    assert torch_dtype("float16", "cpu") is torch.float16
    experiment = load_experiment("config/smollm2.yaml")
    found = on_this_machine(experiment, "profiling", "benchmarks")
    assert found.profiling.dtype == found.benchmarks.dtype == dtype
    assert on_this_machine(experiment, "extension", device="cpu").extension.dtype == dtype
    assert on_this_machine(experiment, "extension", device="cuda").extension.dtype == "bfloat16"
