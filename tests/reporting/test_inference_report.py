"""What is made of the times of prefill and decoding: claims, figure and table."""

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from longgen.profiling.inference_records import SLICES, WHOLE
from longgen.reporting.claims import ledger
from longgen.reporting.lines import draw_ideal
from longgen.reporting.report import write_report
from longgen.reporting.run import open_run
from tests.reporting.fake_inference import GIB, fake_records, write_gpu_run


def test_the_ledger_takes_composed_models_and_whole_ones_before_them(tmp_path):
    composed, whole = fake_records(SLICES), fake_records(WHOLE)
    write_gpu_run(tmp_path / "slices", composed)
    write_gpu_run(tmp_path / "both", composed + [replace(record, speedup=1.9, speedup_low=1.9) for record in whole])
    rows = ledger([open_run("slices", tmp_path)]).set_index(["claim", "variant"])
    prefill = rows.loc["prefill-speedup"]
    assert list(prefill.index) == ["longgen-sink", "longgen-stride", "longgen-sink-12-layers"]
    assert prefill.loc["longgen-stride", "measured"] == pytest.approx(16.01 / (0.01 + 11 * 0.5 + 21 * 0.15))
    assert set(prefill["device"]) == {"Pretend GPU, composed from slices of 8 layers"}
    assert set(prefill["verdict"]) == {"exceeded"}
    decode = (1e-4 + 32 * 7e-4) / (1e-4 + 12 * 7e-4 + 20 * 1e-4)
    assert rows.loc[("decode-speedup", "longgen-sink-12-layers"), "measured"] == pytest.approx(decode)
    kv = rows.loc[("kv-reduction", "longgen-sink-12-layers")]
    assert kv["measured"] == pytest.approx(kv["ideal"], abs=1e-9), "to the byte"
    assert kv["verdict"] == "reproduced"
    answered = ["prefill-speedup", "decode-speedup", "kv-reduction"]
    assert rows.loc[~rows.index.get_level_values("claim").isin(answered), "measured"].isna().all()
    rows = ledger([open_run("both", tmp_path)]).set_index(["claim", "variant"])
    assert rows.loc[("decode-speedup", "longgen-sink"), "measured"] == pytest.approx(1.9)
    assert set(rows.loc["decode-speedup", "device"]) == {"Pretend GPU, the whole model"}


@pytest.mark.parametrize("change", [{"length": 65536}, {"shape": "llama2-13b"}, {"status": "failed"}])
def test_other_lengths_and_models_do_not_answer_the_claims(tmp_path, change):
    write_gpu_run(tmp_path / "gpu", [replace(record, **change) for record in fake_records(SLICES)])
    assert set(ledger([open_run("gpu", tmp_path)])["verdict"]) == {"not measured"}


def test_the_figure_tells_measured_from_composed_and_the_table_how_long_a_context_fits(tmp_path):
    longest = {"what": "longest-context", "composed": False, "note": None, "n": None, "seconds": None, "speedup": None}
    template = replace(fake_records(WHOLE)[0], **longest, kv_bytes=64 * GIB)
    fits = [
        replace(template, pattern="full", length=126976),
        replace(template, pattern="sink", full_layers=12, length=335872),
    ]
    write_gpu_run(tmp_path / "gpu", fake_records(SLICES) + fake_records(WHOLE, 32768) + fits)
    report = write_report(open_run("gpu", tmp_path), tmp_path / "figures")
    assert not report.omissions
    drawn = (tmp_path / "figures" / "inference_by_length.csv").read_text().splitlines()
    assert len(drawn) == 1 + 2 * 2 * 2, "two stages, lengths and patterns; the ratio 12/32 alone"
    text = (tmp_path / "figures" / "inference_speed.md").read_text()
    (row,) = [line.split("|") for line in text.splitlines() if "335,872" in line]
    assert row[6].strip() == "2.65\u00d7"
    assert "38.0 %" in text


def test_the_ideal_of_a_single_length_is_seen():
    axes = Figure().subplots()
    rows = pd.DataFrame({"length": [4096, 8192, 8192], "ideal_speedup": [1.5, 2.0, 2.0]})
    draw_ideal(axes, rows, "black")
    draw_ideal(axes, rows[1:], "black")
    line, dash = axes.lines
    assert (line.get_xdata().tolist(), line.get_marker()) == ([4096, 8192], "None")
    assert (dash.get_ydata().tolist(), dash.get_marker()) == ([2.0], "_")


@pytest.mark.slow
def test_batches_are_kept_apart(tmp_path):
    """No claim is answered by them, the figure leaves them out, and the table has them under a heading of their own."""
    longest = {"what": "longest-context", "composed": False, "note": None, "n": None, "seconds": None, "speedup": None}
    template = replace(fake_records(WHOLE)[0], **longest)
    fits = [
        replace(template, pattern=pattern, length=length // batch, batch=batch)
        for batch in (1, 4)
        for pattern, length in (("full", 126976), ("sink", 335872))
    ]
    write_gpu_run(tmp_path / "only", fake_records(WHOLE, batch=4))
    assert set(ledger([open_run("only", tmp_path)])["verdict"]) == {"not measured"}
    write_gpu_run(tmp_path / "gpu", fake_records(WHOLE) + fake_records(WHOLE, batch=4) + fits)
    write_report(open_run("gpu", tmp_path), tmp_path / "figures")
    drawn = (tmp_path / "figures" / "inference_by_length.csv").read_text().splitlines()
    assert len(drawn) == 1 + 2 * 2, "two stages and patterns of one sequence"
    text = (tmp_path / "figures" / "inference_speed.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## llama2-7b")]
    assert headings == ["## llama2-7b, 131,072 tokens", "## llama2-7b, 131,072 tokens, batch 4"]
    rows = [line.split("|") for line in text.splitlines() if "335,872" in line or "83,968" in line]
    assert [(row[4].strip(), row[6].strip()) for row in rows] == [("1", "2.65\u00d7"), ("4", "2.65\u00d7")]
