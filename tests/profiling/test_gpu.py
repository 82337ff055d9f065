"""`python -m longgen.profiling.gpu`, at tiny sizes on the CPU: what it writes, how it goes on, what follows from it."""

import math
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.model import Model
from longgen.profiling import gpu, kernel_checks
from longgen.profiling.kernel_checks import Check
from longgen.profiling.kernel_speed import cases, crossovers, derive, kernel_table, timed
from longgen.profiling.rounds import median_columns
from longgen.profiling.session import Budget
from longgen.profiling.workloads import LLAMA2_7B, LLAMA2_70B, PATTERNS, TINY, Workload
from longgen.records.kernels import DeviceLimitRecord, KernelSpeedRecord
from longgen.results import load_result
from longgen.shapes import MODEL_SHAPES
from tests.waiting import wait_until


def speed(folder) -> list[dict]:
    return load_result(folder / "kernels-cpu" / "kernels" / "kernel-speed.json").records


def run(folder, *arguments: str) -> int:
    return gpu.main(["--device", "cpu", "--output", str(folder), "--minutes", "60", *arguments])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    assert run(folder, "--only", "speed") == 0
    return folder


@pytest.mark.slow
def test_everything_is_measured_or_says_why_not(measured):
    records = speed(measured)
    assert [(r["stage"], r["pattern"], r["implementation"]) for r in records] == [
        (workload.stage, workload.pattern, name) for workload, name in cases(tiny=True)
    ]
    for record in records:
        assert record["status"] in ("measured", "unsupported")
        if record["status"] == "measured":
            assert 0 < record["seconds_low"] <= record["seconds"] <= record["seconds_high"]
            assert record["reason"] is None
        else:
            assert record["seconds"] is None
            assert "cpu" in record["reason"]
    by_case = {(r["stage"], r["pattern"], r["implementation"]): r for r in records}
    for stage in ("forward", "forward+backward"):
        dense, ours = by_case[stage, "full", "sdpa"], by_case[stage, "sink", "blocked"]
        assert dense["speedup"] == dense["fraction_of_ideal"] == 1
        assert ours["speedup"] == pytest.approx(dense["seconds"] / ours["seconds"])
    assert by_case["decode", "full", "sdpa decode"]["ideal_from"] == "copy bandwidth"
    limits = load_result(measured / "kernels-cpu" / "kernels" / "device-limits.json")
    assert [limit["quantity"] for limit in limits.records] == ["copy bandwidth", "matrix product"]
    assert limits.provenance["device"]["kind"] == "cpu"


@pytest.mark.slow
def test_a_session_that_is_killed_loses_nothing(tmp_path):
    path = tmp_path / "kernels-cpu" / "kernels" / "kernel-speed.json"
    command = [
        sys.executable,
        "-m",
        "longgen.profiling.gpu",
        "--device",
        "cpu",
        "--only",
        "speed",
        "--output",
        tmp_path,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: path.exists() or process.poll() is not None, "nothing was measured")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = speed(tmp_path)
    assert before
    assert run(tmp_path, "--only", "speed") == 0
    after = speed(tmp_path)
    assert len(after) > len(before) or len(before) == len(list(cases(tiny=True)))
    times = [record["seconds"] for record in before]
    assert [record["seconds"] for record in after[: len(before)]] == times


def test_checks_that_could_not_be_made_do_not_pass(tmp_path):
    assert run(tmp_path, "--only", "checks") == 0  # nothing failed: there is no GPU
    records = load_result(tmp_path / "kernels-cpu" / "kernels" / "kernel-checks.json").records
    assert {(record["status"], record["passed"], record["error"]) for record in records} == {
        ("unsupported", None, None)
    }


def test_on_a_gpu_small_checks_are_made_by_other_processes_ahead_of_their_turn(monkeypatch):
    """Threads stand in for them. Each knows a check by its number alone."""
    made = []

    def check(what: str, small: bool) -> Check:
        return Check(what, TINY, 8, "full", torch.float32, lambda: made.append(what) or {"output": math.nan}, small)

    listed = [check("large", False), check("small", True), check("done", True)]
    monkeypatch.setattr(kernel_checks, "all_checks", lambda device, tiny: listed)
    monkeypatch.setattr(kernel_checks, "ProcessPoolExecutor", lambda *arguments: ThreadPoolExecutor(1))
    stage = kernel_checks.KernelChecks("cuda", torch.bfloat16, tiny=False)
    with stage.prepare(listed[:2]):
        wait_until(lambda: made == ["small"], "the small check was not begun")
        records = [stage.measure(case, Budget(60)) for case in listed[:2]]
    assert made == ["small", "large"]
    assert {(r.tensor, r.status, r.error, r.passed) for (r,) in records} == {("output", "failed", None, False)}, (
        "what is no number"
    )


@pytest.mark.parametrize("length", [4096, 131072])
def test_work_is_what_the_planner_counts(length):
    for shape in (LLAMA2_7B, LLAMA2_70B):
        model = MODEL_SHAPES[shape.name]
        sparse = make_layout(model.num_layers, 0, "middle", model.num_kv_heads)
        for pattern in ("sink", "stride-16"):
            counted = Model(model, Hybrid(sparse, PATTERNS[pattern])).attention_flops(length) / model.num_layers
            assert Workload("forward", shape, length, pattern).flops() == counted
            assert Workload("forward+backward", shape, length, pattern).flops() == 3.5 * counted
        # to decode: the keys and values of the cache, one query, one output
        full = Workload("decode", shape, length, "full").bytes(2)
        assert full == 2 * 128 * (2 * shape.num_heads + 2 * shape.num_kv_heads * (length + 1))


def row(
    implementation: str, pattern: str, length: int, seconds: float | None, flops: float, stage="forward"
) -> KernelSpeedRecord:
    same = {"stage": stage, "shape": "llama2-7b", "batch": 1, "length": length, "flops": flops, "bytes": 100}
    blank = KernelSpeedRecord.blank(**same, implementation=implementation, pattern=pattern)
    if seconds is None:
        return replace(blank, status="not measured", reason="no time left")
    return timed(blank, [seconds] * 3)


def test_the_ideal_is_that_of_the_fastest_dense_kernel_of_the_same_session():
    records = [
        row("sdpa-flash", "full", 100, 10.0, 1000.0),
        row("sdpa-cudnn", "full", 100, 8.0, 1000.0),
        row("longgen full", "full", 100, 4.0, 1000.0),  # ours is no yardstick
        row("longgen", "sink", 100, 2.0, 50.0),
        row("longgen", "sink", 400, 5.0, 200.0),
        row("flex-128", "sink", 100, None, 50.0),
        row("longgen decode", "full", 100, 4.0, 50.0, stage="decode"),
    ]
    limit = {"quantity": "copy bandwidth", "value": 50.0, "unit": "bytes per second"}
    limits = [DeviceLimitRecord(**limit, **median_columns([1.0]))]
    derived = derive(records, limits)
    assert [r.speedup for r in derived] == [0.8, 1.0, 2.0, 4.0, None, None, None]
    assert [r.fraction_of_ideal for r in derived[:6]] == [0.8, 1.0, 2.0, 0.2, pytest.approx(0.32), None]
    assert derived[4].ideal_from == "sdpa-cudnn @ 100"
    assert derived[6].fraction_of_ideal == 0.5
    assert derived[3].flops_per_second == 25.0
    text = kernel_table(derived, limits)
    assert "not measured: flex-128: no time left (1 cases)" in text
    assert derive(records[3:4], [])[0].fraction_of_ideal is None


CROSSOVERS = {
    (1, 1, 1): "from 10 tokens on",
    (3, 1, 1): "from 20 tokens on",
    (1, 3, 1): "from 40 tokens on",
    (1, 1, 3): "at no measured length",
}


@pytest.mark.parametrize(("seconds", "words"), CROSSOVERS.items())
def test_the_crossover_is_where_ours_stays_ahead(seconds, words):
    lengths = (10, 20, 40)
    records = [row("sdpa", "full", length, 2.0, 10.0) for length in lengths]
    records += [row("longgen", "sink", length, time, 5.0) for length, time in zip(lengths, seconds, strict=True)]
    assert crossovers(derive(records, [])) == [
        f"forward, llama2-7b, sink: not slower than the fastest dense kernel {words}"
    ]


def test_wrong_arguments_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--only", "everything"])
    assert "invalid choice: 'everything'" in capsys.readouterr().err
    for device, words in (("gpu", "allowed are cpu, cuda and cuda:NUMBER"), ("cuda", "PyTorch sees no GPU")):
        with pytest.raises(SystemExit):
            gpu.main(["--device", device, "--output", str(tmp_path)])
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_needs_neither_the_pipeline_nor_the_model(tmp_path):
    """What a machine with a GPU may lack: only PyTorch, NumPy, tqdm, and wrapt for `import longgen`, are needed."""
    absent = "snakemake datasets lm_eval transformers typer matplotlib pandas tabulate rich yaml tokenizers safetensors"
    program = f"import sys; sys.modules.update(dict.fromkeys({absent.split()})); import longgen.profiling.gpu as gpu; "
    program += f"sys.exit(gpu.main(['--device', 'cpu', '--minutes', '1e-9', '--output', {str(tmp_path)!r}]))"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
