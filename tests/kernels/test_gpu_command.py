"""The checks and the tuning of `python -m longgen.profiling.gpu`, with the kernels in Triton's interpreter."""

import pytest

from longgen.attention import triton_attention as launcher
from longgen.profiling import gpu, kernel_checks
from longgen.profiling.kernel_checks import small_checks
from longgen.results import load_result


def run(folder, *parts: str) -> int:
    return gpu.main(
        ["--device", "cpu", "--output", str(folder), *(word for part in parts for word in ("--only", part))]
    )


def records(folder, kind: str) -> list[dict]:
    return load_result(folder / "kernels-cpu" / "kernels" / f"{kind}.json").records


def test_all_checks_pass_and_every_candidate_tile_is_timed(tmp_path, capsys):
    assert run(tmp_path, "checks", "tuning") == 0
    checks = records(tmp_path, "kernel-checks")
    assert all(record["passed"] is True and record["status"] == "measured" for record in checks)
    assert {record["what"] for record in checks} >= {check.what for check in small_checks("cpu")}
    assert {record["tensor"] for record in checks} == {"output", "grad query", "grad key", "grad value"}
    assert "WRONG" not in capsys.readouterr().out
    tuning = records(tmp_path, "kernel-tuning")
    assert {record["kernel"] for record in tuning} == {"forward", "queries", "keys", "far_keys", "decode"}
    assert {record["status"] for record in tuning} == {"measured"}


@pytest.mark.parametrize("fault", ["a small error", "a tile never written"])
def test_a_wrong_kernel_fails_the_command(tmp_path, capsys, monkeypatch, fault):
    forward = launcher.forward

    def wrong(*arguments):
        output, lse = forward(*arguments)
        if fault == "a small error":
            output *= 1.02
        else:
            output[:, :, :16] = float("nan")
        return output, lse

    monkeypatch.setattr(launcher, "forward", wrong)
    monkeypatch.setattr(kernel_checks, "all_checks", lambda device, tiny: list(small_checks(device, 40))[:3])
    assert run(tmp_path, "checks") == 1
    assert "WRONG: sink + window, output" in capsys.readouterr().out
    assert not any(record["passed"] for record in records(tmp_path, "kernel-checks") if record["tensor"] == "output")
