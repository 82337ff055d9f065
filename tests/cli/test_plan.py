"""`longgen plan`: its numbers, its results file, its messages, and that it imports nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from longgen.cli import app, main
from longgen.config import load_experiment
from longgen.errors import ConfigError
from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.model import Model, make_plan
from longgen.pattern import SparsePattern
from longgen.planner import experiment_records, experiment_settings
from longgen.records.schema import row_of
from longgen.results import load_result
from longgen.shapes import model_shape
from tests.experiments import experiment_file

PAPER = "--model llama2-7b --length 131072 --full-layers 12 --placement middle --pattern sink"
ON_H200 = ["--gpu", "h200"]


def longgen(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["plan", *arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def rows(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in longgen(*arguments, "--json").splitlines()]


def test_the_papers_setting() -> None:
    (row,) = rows(*PAPER.split())
    plan = asdict(make_plan(Model(model_shape("llama2-7b"), Hybrid(make_layout(32, 12), SparsePattern())), 131072))
    assert row["kv_reduction"] == 0.62
    assert plan["kv_reduction"] != 0.62  # rounded for the comparison, and it alone
    assert {key: row[key] for key in plan if key != "kv_reduction"} == {
        key: value for key, value in plan.items() if key != "kv_reduction"
    }
    assert (row["model"], row["full_layers"], row["num_layers"]) == ("llama2-7b", 12, 32)
    assert row["pattern"] == {"block_size": 64, "sink_blocks": 1, "local_blocks": 16, "stride": 0, "staggered": False}


def test_defaults() -> None:
    (row,) = rows("--model", "llama2-7b")
    assert (row["length"], row["full_layers"], row["placement"]) == (131072, 11, "middle")
    assert row["kv_reduction"] == 0.651
    assert rows("--model", "llama2-7b", "--pattern", "stride")[0]["pattern"]["stride"] == 16


def test_every_option_reaches_the_plan() -> None:
    options = (
        "--model qwen3-8b --length 5000 --full-layers 1/4 --placement ends --pattern stride --block-size 32 "
        "--sink-blocks 2 --local-blocks 8 --stride 4 --batch 3 --bytes-per-value 1"
    )
    (row,) = rows(*options.split())
    pattern = SparsePattern(32, 2, 8, 4)
    plan = make_plan(
        Model(model_shape("qwen3-8b"), Hybrid(make_layout(36, 9, "ends"), pattern)), 5000, batch=3, bytes_per_value=1
    )
    assert row["kv_bytes"] == plan.kv_bytes
    assert row["decode_bytes"] == plan.decode_bytes
    assert row["prefill_flops"] == plan.prefill_flops
    assert row["pattern"] == pattern.to_dict()
    assert row["placement"] == "ends"


def test_several_lengths() -> None:
    found = rows("--model", "llama3-8b", "--length", "4096, 8192", "--length", "131072")
    assert [row["length"] for row in found] == [4096, 8192, 131072]


def test_path_of_a_config_json(tmp_path: Path) -> None:
    values = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    values |= {"num_attention_heads": 8, "vocab_size": 100}
    (tmp_path / "config.json").write_text(json.dumps(values))
    (row,) = rows("--model", str(tmp_path), "--length", "4096")
    assert (row["model"], row["num_layers"], row["kv_bytes_full"]) == (tmp_path.name, 3, 2 * 3 * 4096 * 64 * 2)


def test_table() -> None:
    text = longgen(*PAPER.split())
    assert "llama2-7b, 12/32 layers full (middle)" in text
    assert "predicted and not measured" in text
    line = next(line for line in text.splitlines() if "131,072" in line)
    assert line.split() == ["131,072", "24.3", "GiB", "62.0", "%", "3.4", "P", "1.81x", "2.08x", "1.80x"]


def test_experiment(tmp_path: Path) -> None:
    config, output = experiment_file(tmp_path), tmp_path / "results" / "plan.json"
    text = longgen("--config", str(config), "--output", str(output))
    experiment, result = load_experiment(config), load_result(output)
    assert (result.kind, result.run, result.variant) == ("plan", "tiny", None)
    assert result.settings == experiment_settings(experiment)
    assert result.records == [row_of(record) for record in experiment_records(experiment)]
    assert {"date", "git_commit", "config_hash", "seed", "device", "packages"} <= set(result.provenance)
    assert result.provenance["seed"] == 7
    assert "middle" in text
    assert "…" not in text  # no column is cut where the output is a file


def test_experiment_hash_follows_what_is_planned(tmp_path: Path) -> None:
    config, output = experiment_file(tmp_path), tmp_path / "plan.json"
    hashes = []
    for old, new in (("", ""), ("samples: 2", "samples: 3"), ("local_blocks: 4", "local_blocks: 5")):
        config.write_text(config.read_text().replace(old, new))
        longgen("--config", str(config), "--output", str(output))
        hashes.append(load_result(output).provenance["config_hash"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "--model is missing: allowed are llama2-7b, "),
        ("--model llama2", "--model is 'llama2': allowed are llama2-7b, "),
        ("--model llama2-7b --length 4k", "--length is '4k': allowed are whole numbers >= 1"),
        ("--model llama2-7b --length 4096,,8192", "--length is '': allowed are whole numbers >= 1"),
        ("--model llama2-7b --length 0", "--length is '0': allowed are whole numbers >= 1"),
        ("--model llama2-7b --full-layers 33", "--full-layers is '33': allowed is a count 0..32"),
        ("--model llama2-7b --placement centre", "--placement is 'centre': allowed are middle, ends"),
        ("--model llama2-7b --pattern window", "--pattern is 'window': allowed are sink, stride"),
        ("--model llama2-7b --stride 16", "--stride is 16 with --pattern sink: allowed is 0 with sink"),
        ("--model llama2-7b --pattern stride --stride 0", "--stride is 0 with --pattern stride: allowed is 0 with"),
        ("--model llama2-7b --pattern stride --stride 1", "--stride is 1: that is full attention"),
        ("--model llama2-7b --block-size 0", "--block-size is 0: allowed is a whole number >= 1"),
        ("--model llama2-7b --batch 0", "--batch is '0': allowed are whole numbers >= 1"),
        ("--model llama2-7b --output plan.json", "--output is 'plan.json': allowed is a path with --config only"),
        (
            "--config config/smoke.yaml --batch 2 --full-layers 1",
            "--full-layers, --batch given with --config: allowed is one or",
        ),
        ("--config x.yaml", "x.yaml does not exist"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        longgen(*options.split())
    assert str(error.value).startswith(message)


def test_variants_with_the_same_numbers_are_one_row_and_named() -> None:
    """By placement alone nothing that is planned differs; JSON has them all."""
    text = longgen("--config", "config/llama2-7b.yaml")
    rows = [line.partition("  ")[0] for line in text.splitlines() if "131,072" in line]
    assert rows == ["full +1", "longgen-sink +4", "longgen-stride", "all-sparse", "middle-1-6", "middle-1-2"]
    assert "\nlonggen-sink +4: also ends-1-3, bottom-1-3, top-1-3, interleaved-1-3\n" in text
    assert max(map(len, text.splitlines())) <= 80
    assert len(longgen("--config", "config/llama2-7b.yaml", "--json").splitlines()) == 11
    by_length = longgen("--config", "config/smoke.yaml")
    assert [line.partition("  ")[0] for line in by_length.splitlines() if " 2,048 " in line] == [
        *("full", "longgen-sink +5", "longgen-stride", "all-sparse", "middle-1-6", "middle-1-2")
    ]


def test_error_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["longgen", "plan", "--model", "llama2-7b", "--full-layers", "2.5"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("longgen: error: --full-layers is '2.5': allowed is")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", *PAPER.split(), "--gpu", "h200"], ["plan", "--config", "tiny.yaml"]]
)
def test_nothing_heavy_is_imported(tmp_path: Path, arguments: list[str]) -> None:
    experiment_file(tmp_path)
    code = (
        "import sys\n"
        "from longgen.cli import main\n"
        f"sys.argv = ['longgen', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'transformers'} & set(sys.modules)\n"
        "print('imported', sorted(heavy))\n"
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported []"
