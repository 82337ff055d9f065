"""The benchmark of attention on a CPU: what it writes, and that speed-ups are compared with the pattern's own ideal."""

import pytest
import torch

from longgen.pattern import SparsePattern
from longgen.profiling import cpu
from longgen.results import load_result

COLUMNS = [
    *("length", "pattern", "stage", "n", "full_seconds", "seconds", "speedup", "speedup_low", "speedup_high"),
    *("ideal_speedup", "fraction_of_ideal"),
]


def test_a_toy_run_measures_every_cell_and_says_where_it_came_from(tmp_path, capsys):
    threads = torch.get_num_threads()
    file = tmp_path / "toy" / "kernels" / "attention-speed.json"
    sizes = ["--lengths", "128", "3000", "--heads", "2", "--head-dim", "8", "--repeats", "2"]
    try:
        cpu.main([*sizes, "--name", "toy", "--output", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    result = load_result(file)
    assert result.kind == "attention-speed"
    assert result.settings["lengths"] == [128, 3000]
    assert result.settings["patterns"]["stride-16"]["stride"] == 16
    assert result.provenance["device"]["threads"] == 1
    cells = [(record["length"], record["pattern"], record["stage"]) for record in result.records]
    stages = ("forward", "backward", "forward+backward")
    assert sorted(cells) == sorted((n, p, s) for n in (128, 3000) for p in ("sink", "stride-16") for s in stages)
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
    (record,) = cpu.measure_attention({"tiny": pattern}, [8], heads=1, head_dim=4, repeats=3)
    # 8 * 9 / 2 pairs in all; 4 blocks of 3 under the pattern
    assert record["ideal_speedup"] == pytest.approx(3.0)
    assert (record["full_seconds"], record["seconds"], record["speedup"]) == (6.0, 3.0, 2.0)
    assert record["fraction_of_ideal"] == pytest.approx(2 / 3)
    assert cpu.table([record]).splitlines()[2].split() == [
        "8",
        "tiny",
        "forward",
        "6000.0",
        "3000.0",
        "2.00",
        "3.00",
        "0.67",
    ]


@pytest.mark.parametrize("option", ["--lengths", "--heads", "--repeats", "--threads"])
def test_sizes_below_one_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        cpu.main([option, "0"])
    assert "allowed is a whole number >= 1" in capsys.readouterr().err
