"""The benchmark of attention on a CPU: what it writes, and that speed-ups are compared with the pattern's own ideal."""

from itertools import product

import pytest
import torch

from longgen.busy import WATCHED
from longgen.pattern import SparsePattern
from longgen.profiling import cpu
from longgen.results import load_result

COLUMNS = [
    *("dtype", "num_heads", "num_kv_heads", "head_dim", "implementation"),
    *("length", "pattern", "stage", "n", "full_seconds", "seconds", "speedup", "speedup_low", "speedup_high"),
    *("ideal_speedup", "fraction_of_ideal", "spread", "speedup_spread", *WATCHED),
]


@pytest.mark.slow
def test_a_toy_run_measures_every_cell_and_says_where_it_came_from(tmp_path, capsys):
    threads = torch.get_num_threads()
    file = tmp_path / "toy" / "kernels" / "attention-speed.json"
    sizes = ["--lengths", "128", "3000", "--heads", "2x8", "4/2x8", "--dtype", "float32", "bfloat16", "--repeats", "2"]
    try:
        cpu.main([*sizes, "--name", "toy", "--output", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    result = load_result(file)
    assert result.kind == "attention-speed"
    assert result.settings["lengths"] == [128, 3000]
    assert result.settings["patterns"]["stride-16"]["stride"] == 16
    assert result.provenance["device"]["threads"] == 1
    names = ("dtype", "num_heads", "num_kv_heads", "length", "pattern", "stage")
    cells = [tuple(record[name] for name in names) for record in result.records]
    stages = ("forward", "backward", "forward+backward")
    kinds = product(("float32", "bfloat16"), ((2, 2), (4, 2)), (128, 3000), ("sink", "stride-16"), stages)
    assert sorted(cells) == sorted((dtype, *heads, *rest) for dtype, heads, *rest in kinds)
    for record in result.records:
        assert list(record) == COLUMNS
        assert record["n"] == 2
        assert 0 < record["speedup_low"] <= record["speedup"] <= record["speedup_high"]
        # up to 16 blocks of 64 tokens all is seen
        assert (record["ideal_speedup"] == 1) == (record["length"] == 128)
        assert record["fraction_of_ideal"] == record["speedup"] / record["ideal_speedup"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(cells), "a heading and a line below it"


def test_the_fraction_is_the_speedup_over_the_ratio_of_pairs(monkeypatch):
    pattern = SparsePattern(2, 0, 1)
    seconds = {None: 6.0, pattern: 3.0}
    monkeypatch.setattr(cpu, "_seconds", lambda pattern, *_: {"forward": seconds[pattern]})
    (record,) = cpu.measure_attention({"tiny": pattern}, [8], cpu.Heads(1, 1, 4), "float32", repeats=3)
    # 8 * 9 / 2 pairs in all; 4 blocks of 3 under the pattern
    assert record.ideal_speedup == pytest.approx(3.0)
    assert (record.full_seconds, record.seconds, record.speedup) == (6.0, 3.0, 2.0)
    assert record.fraction_of_ideal == pytest.approx(2 / 3)
    assert cpu.table([record]).splitlines()[2].split() == [
        "float32",
        "1/1x4",
        "8",
        "tiny",
        "forward",
        "blocked",
        "6000.0",
        "3000.0",
        "2.00",
        "3.00",
        "0.67",
    ]


@pytest.mark.parametrize("option", ["--lengths", "--repeats", "--threads"])
def test_sizes_below_one_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        cpu.main([option, "0"])
    assert "allowed is a whole number >= 1" in capsys.readouterr().err


@pytest.mark.parametrize("heads", ["8", "9/4x64", "0x64", "8/x64"])
def test_heads_that_make_no_groups_are_refused(heads, capsys):
    with pytest.raises(SystemExit):
        cpu.main(["--heads", heads])
    assert f"{heads}: allowed are QUERY_HEADS/KV_HEADSxHEAD_DIM, such as 9/3x64 or 8x64" in capsys.readouterr().err


def test_flex_attention_is_compiled_and_has_a_forward_pass_alone(monkeypatch):
    asked = []

    def attend(query, key, value, call, compiled):
        asked.append(compiled)
        assert not query.requires_grad
        return query

    monkeypatch.setattr(cpu, "flex_attend", attend)
    records = cpu.measure_attention({"tiny": SparsePattern(2, 0, 1)}, [8], cpu.Heads(2, 1, 4), "float32", 1, flex=True)
    assert asked == [True, True], "a round that warms up, and one that counts"
    assert [record.stage for record in records if record.implementation == "flex"] == ["forward"]
