"""What the command prints in terminals of 40, 80 and 120 columns: every number of every table, whole."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from longgen import tables
from longgen.cli import app
from longgen.cli.pack import _print_report
from longgen.cli.score_tables import print_scores
from longgen.profiling.cpu import table as cpu_table
from longgen.profiling.inference_records import SLICES
from longgen.profiling.inference_speed import InferenceSpeed
from longgen.profiling.kernel_speed import kernel_table
from longgen.profiling.training_speed import TrainingSpeed
from longgen.records.kernels import AttentionSpeedRecord, DeviceLimitRecord, KernelSpeedRecord
from tests.reporting import fake_inference, fake_training
from tests.reporting.fake_kernels import attention_speed_records, limit_records, speed_records
from tests.reporting.fake_reductions import write_reductions
from tests.reporting.fake_run import ABLATION, write_run

WIDTHS = (40, 80, 120)


def numbers(text: str) -> Counter[str]:
    """Every word with a digit in it, such as ``131,072`` or ``(0.84\u20130.95)``."""
    return Counter(word.rstrip(",;:") for word in text.split() if re.search(r"\d", word))


def check(monkeypatch, capsys, show, *arguments) -> None:
    """Nothing that a file gets is missing in a terminal, whatever its width; and no table is wider than that."""

    def shown(width: int | None) -> str:
        monkeypatch.setattr(tables, "terminal_width", lambda: width)
        show(*arguments)
        return capsys.readouterr().out

    whole = numbers(shown(None))
    assert len(whole) > 5
    for width in WIDTHS:
        text = shown(width)
        missing = whole - numbers(text)
        assert not missing, (width, missing)
        ruled = [line for line in text.splitlines() if re.fullmatch(r"-+(  -+)*", line)]
        assert all(len(line) <= width for line in ruled)


def call(*words: object) -> None:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception:
        raise result.exception
    print(result.output)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "plan --model llama2-7b --length 4096,131072 --batch 1,16",
        "plan --model llama2-7b --kv-budget 0.38",
        "plan --model llama2-7b --length 4096,131072 --gpu h100-80gb",
        "plan --model llama2-7b --dense-prefill 12.5 --dense-decode 0.025",
        "plan --config config/llama2-7b.yaml",
        "plan cluster --config config/llama2-7b.yaml",
        "plan train --model llama2-7b",
        "plan train --config config/llama2-7b.yaml",
    ],
)
def test_plans(words, monkeypatch, capsys):
    check(monkeypatch, capsys, call, *words.split())


@pytest.mark.slow
def test_comparisons_of_runs(tmp_path: Path, monkeypatch, capsys):
    write_run(tmp_path / "smoke")
    write_run(tmp_path / "published/all", ABLATION)
    write_reductions(tmp_path / "published/all")
    check(monkeypatch, capsys, call, "compare", "published/all", "--results", tmp_path)
    check(monkeypatch, capsys, call, "compare", "smoke", "published/all", "--results", tmp_path)
    profiles = ("profile", "compare", "smoke", "published/all", "--all", "--results", tmp_path)
    check(monkeypatch, capsys, call, *profiles)


def test_scores(monkeypatch, capsys):
    rows = [("needle", "keys", "exact", "131,072", "0.25", "100", "93.1", "86.2-96.9")] * 3
    headings = ("length", "depth", "n", "score", "95 % interval")
    check(monkeypatch, capsys, print_scores, ("benchmark", "task", "metric"), headings, rows, [{"stand_in": True}])


def test_packing(monkeypatch, capsys):
    counts = dict.fromkeys(("tokens_read", "tokens_used", "tokens_duplicate", "tokens_wasted"), 1234567890)
    counts |= {"documents_used": 12_345_678, "documents_duplicate": 1_234_567, "bad_records": 0}
    record = counts | {"domain": "c4", "length_low": 131_072}
    total = counts | {"domain": None, "length_low": None, "seconds": 12.5, "tokens_per_second": 98_765_432}
    done = SimpleNamespace(records=[record, record | {"domain": "arxiv"}, total], written=True, bad=[])
    settings = SimpleNamespace(name="packing", method="per-source", upsampling=SimpleNamespace(threshold=4096))
    check(monkeypatch, capsys, _print_report, done, settings, Path("rows"))


def test_profiles(monkeypatch, capsys):
    on_cpu = [AttentionSpeedRecord(**record) for record in attention_speed_records()]
    limits = [DeviceLimitRecord(**limit) for limit in limit_records()]
    kernels = [KernelSpeedRecord(**record) for record in speed_records()[:20]]
    check(monkeypatch, capsys, lambda: print(TrainingSpeed("cpu", True).table(fake_training.fake_records())))
    check(monkeypatch, capsys, lambda: print(InferenceSpeed("cpu", True).table(fake_inference.fake_records(SLICES))))
    check(monkeypatch, capsys, lambda: print(kernel_table(kernels, limits)))
    check(monkeypatch, capsys, lambda: print(cpu_table(on_cpu)))
