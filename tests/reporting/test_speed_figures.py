"""What the figures of time, speed-up and KV cache draw, value by value, against made-up runs."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.container import BarContainer

from longgen.profiling.inference_records import SLICES, WHOLE
from longgen.reporting.lines import BAND
from longgen.reporting.measures import STAGES as IN_ORDER
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import variant_styles
from tests.reporting import fake_inference, fake_run, fake_training
from tests.reporting.fake_run import DEFAULTS, SPEED_LENGTHS, STAGES, ideal, kv_fraction, speedup
from tests.reporting.test_figures import HYBRIDS, LABELS, draw, ends, errorbars, legend, panels, vertical_lines


def bars(axes: Axes) -> list[list[float]]:
    """Widths of the bars: ideal, then measured."""
    return [[patch.get_width() for patch in c] for c in axes.containers if isinstance(c, BarContainer)]


def test_speedup(run: Run) -> None:
    drawing = draw("speedup", run)
    axes = panels(drawing.figure)
    assert [a.get_title() for a in axes] == ["training, 2K tokens", "prefill, 4K tokens", "decode, 4K tokens"]
    paper = {"training": 1.55, "prefill": 1.67, "decode": 1.41}
    for panel, (stage, value) in zip(axes, paper.items(), strict=True):
        length = 2048 if stage == "training" else 4096
        ideals, measured = bars(panel)
        arguments = [(number, STAGES.index(stage), length) for number in (1, 2, 3)]
        assert measured == pytest.approx([speedup(*a) for a in arguments])
        assert ideals == pytest.approx([ideal(*a) for a in arguments])
        predicted, shown = (c for c in panel.containers if isinstance(c, BarContainer))
        assert all(p.get_hatch() and p.get_facecolor()[3] == 0 for p in predicted), "a prediction is only an outline"
        assert not any(p.get_hatch() for p in shown)
        intervals = [[speedup(*a) - 0.06, speedup(*a) + 0.072] for a in arguments]
        assert ends(shown.errorbar, axis=0) == pytest.approx(np.array(intervals))
        assert predicted.errorbar is None, "a prediction has no interval"
        assert sorted(vertical_lines(panel)) == [1, value]
        written = {t.get_text() for t in panel.texts}
        assert {f"{speedup(*a):.2f}\u00d7" for a in arguments} | {f"{value:.2f}\u00d7"} <= written
        assert panel.get_xlabel() == "speed-up (\u00d7)"
    assert [t.get_text() for t in axes[0].get_yticklabels()] == [LABELS[name] for name in HYBRIDS]
    assert legend(drawing.figure) == [
        "measured, with 95 % interval",
        "ideal, predicted",
        "paper, 7B at 128K",
        "full attention (1\u00d7)",
    ]
    assert "measured on Pretend Processor 9000" in drawing.figure.texts[1].get_text()


def test_an_ideal_far_beyond_all_that_was_measured_is_cut_and_its_number_is_not(run: Run) -> None:
    results = copy.deepcopy(run.results)
    for result in results:
        if result.kind == "plan":
            for record in result.records:
                if record["variant"] == "all-sparse":
                    record["ideal_decode_speedup"] = 50.0
    drawing = draw("speedup", Run("smoke", run.folder, results))
    decode = panels(drawing.figure)[2]
    ideals, _ = bars(decode)
    rows = drawing.data[drawing.data["stage"] == "decode"]
    known = max(rows["speedup_high"].max(), 1.41)
    assert ideals[2] == pytest.approx(1.6 * known)
    assert ideals[:2] == pytest.approx(rows["ideal_speedup"].to_numpy()[:2])
    assert "50.00\u00d7" in {text.get_text() for text in decode.texts}
    assert rows["ideal_speedup"].to_numpy()[2] == 50
    assert decode.get_xlim()[1] < 3 * known, "the others have room"
    assert "ideal, predicted (with a gap: longer than drawn)" in legend(drawing.figure)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kv", "speed_by_length", "retrieval", "time_by_length"])
def test_what_stands_aside_for_others_stands_in_the_band_of_its_length(name: str, ablation_run: Run) -> None:
    drawing = draw(name, ablation_run)
    assert "beside each other in a grey band: all at one length" in drawing.figure.texts[1].get_text()
    for axes in panels(drawing.figure):
        patches = [patch for patch in axes.patches if patch.get_facecolor() == to_rgba(BAND)]
        bands = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in patches]
        lengths = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        assert len(bands) == len(lengths)
        for low, high in bands:
            assert sum(low < length < high for length in lengths) == 1
        for line in axes.lines:
            for x in line.get_xdata() if len(line.get_xdata()) > 2 else []:
                assert any(low <= x <= high for low, high in bands)


def test_ideals_stand_above_what_was_measured(run: Run) -> None:
    for panel in panels(draw("speed_by_length", run).figure):
        dashed = [line for line in panel.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 2]
        found = errorbars(panel)
        for line, variant in zip(dashed, HYBRIDS, strict=True):
            assert line.get_xdata() == pytest.approx(found[LABELS[variant]].lines[0].get_xdata())


def test_speed_by_length(run: Run) -> None:
    drawing = draw("speed_by_length", run)
    axes = panels(drawing.figure)
    assert [a.get_title() for a in axes] == list(IN_ORDER)
    for panel in axes:
        stage = STAGES.index(panel.get_title())
        lengths = SPEED_LENGTHS[:3] if STAGES[stage] == "training" else SPEED_LENGTHS
        found = errorbars(panel)
        assert list(found) == [LABELS[name] for name in HYBRIDS]
        dashed = [
            line.get_ydata() for line in panel.lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 2
        ]
        for number, variant in enumerate(HYBRIDS, start=1):
            expected = [speedup(number, stage, length) for length in lengths]
            assert found[LABELS[variant]].lines[0].get_ydata() == pytest.approx(expected)
            low, high = ends(found[LABELS[variant]]).T
            assert low == pytest.approx(np.array(expected) - 0.06)
            assert high == pytest.approx(np.array(expected) + 0.072)
            assert dashed[number - 1] == pytest.approx([ideal(number, stage, length) for length in lengths])
        assert panel.get_xlabel() == "context length (tokens)"
        assert panel.get_yscale() == "log"
        low, high = panel.get_ylim()
        assert low <= 0.8 < 1.25 <= high, "full attention is always seen"
    assert axes[0].get_ylabel() == "speed-up over full attention"
    assert legend(drawing.figure) == [*(LABELS[name] for name in HYBRIDS), "ideal, predicted"]


def test_kv(run: Run) -> None:
    drawing = draw("kv", run)
    (axes,) = panels(drawing.figure)
    markers = {line.get_label(): line for line in axes.lines if line.get_linestyle() == "None"}
    planned = [line for line in axes.lines if line.get_linestyle() == "-"]
    for number, variant in enumerate(DEFAULTS):
        expected = np.array([round(6144 * length * kv_fraction(variant, length)) for length in SPEED_LENGTHS])
        assert markers[LABELS[variant]].get_xdata() == pytest.approx(SPEED_LENGTHS, rel=0.2)
        assert markers[LABELS[variant]].get_xdata() == pytest.approx(planned[number].get_xdata())
        assert markers[LABELS[variant]].get_ydata() == pytest.approx(expected + 64)
        assert planned[number].get_ydata() == pytest.approx(expected)
        assert markers[LABELS[variant]].get_color() == planned[number].get_color()
    assert legend(drawing.figure) == [*LABELS.values(), "measured (marker)", "planned (line)"]
    assert axes.get_ylabel() == "KV cache of one sequence"
    assert "16 MiB" in [text.get_text() for text in axes.get_yticklabels()]


def test_nothing_is_logged_about_missing_ideals(run: Run) -> None:
    """A length that the plan does not have: the measured bars are drawn without an ideal."""
    results = [
        type(r)(r.kind, r.run, [x for x in r.records if x["length"] != 4096], {}, r.variant, r.settings)
        if r.kind == "plan"
        else r
        for r in run.results
    ]
    prefill = panels(draw("speedup", Run("smoke", run.folder, results)).figure)[1]
    ideals, measured = bars(prefill)
    assert all(math.isnan(value) for value in ideals)
    assert measured == pytest.approx([speedup(number, 0, 4096) for number in (1, 2, 3)])
    assert fake_run.TRAINED < 4096


def test_variants_with_as_much_kv_cache_do_not_hide_each_other(ablation_run: Run) -> None:
    (axes,) = panels(draw("kv", ablation_run).figure)
    markers = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_linestyle() == "None"]
    assert len(markers) == len({tuple(marker) for marker in markers}) == 10


def test_time_by_length(run: Run) -> None:
    drawing = draw("time_by_length", run)
    axes = panels(drawing.figure)
    times, rates = axes[:3], axes[3:]
    assert [panel.get_title() for panel in times] == ["training step", "prefill", "one decoded token"]
    for stage, time, rate in zip(IN_ORDER, times, rates, strict=True):
        lengths = np.array(SPEED_LENGTHS[:3] if stage == "training" else SPEED_LENGTHS)
        tokens = np.ones(len(lengths)) if stage == "decode" else lengths
        slow, fast = errorbars(time), errorbars(rate)
        assert list(slow) == list(fast) == list(LABELS.values())
        for number, variant in enumerate(DEFAULTS):
            seconds = np.array([n / 1000 / speedup(number, STAGES.index(stage), n) for n in lengths])
            assert slow[LABELS[variant]].lines[0].get_ydata() == pytest.approx(seconds)
            assert ends(slow[LABELS[variant]]) == pytest.approx(np.array([0.97 * seconds, 1.04 * seconds]).T)
            assert fast[LABELS[variant]].lines[0].get_ydata() == pytest.approx(tokens / seconds)
            rows = drawing.data[(drawing.data["variant"] == variant) & (drawing.data["stage"] == stage)]
            assert rows["tokens_per_second_low"].to_numpy() == pytest.approx(tokens / seconds / 1.04)
            assert ends(fast[LABELS[variant]]) == pytest.approx(
                rows[["tokens_per_second_low", "tokens_per_second_high"]].to_numpy()
            )
        assert (time.get_yscale(), rate.get_yscale()) == ("log", "log")
        assert rate.get_xlabel() == "context length (tokens)"
    assert (times[0].get_ylabel(), rates[0].get_ylabel()) == ("time", "tokens per second")
    assert {"500 ms", "1 s"} <= {text.get_text() for text in times[0].get_yticklabels()}
    assert legend(drawing.figure) == list(LABELS.values())
    assert "one sequence" in drawing.figure.texts[1].get_text()


# ---------------------------------------------------------------- at the true sizes of a model
def test_training_by_length(tmp_path: Path) -> None:
    lengths = (32768, 131072)
    records = [record for length in lengths for record in fake_training.fake_records(0.02, length=length)]
    fake_training.write_gpu_run(tmp_path / "gpu", records)
    drawing = draw("training_by_length", open_run("gpu", tmp_path))
    time, rate, speed = panels(drawing.figure)
    known = fake_training.KNOWN
    layers = {"full": 32 * known["full"], "sink": 12 * known["full"] + 20 * known["sink"]}
    layers["stride-16"] = 12 * known["full"] + 20 * known["stride-16"]
    labels = {
        "full": "full attention: whole model, composed",
        "sink": "LongGen, sink: whole model, composed",
        "stride-16": "LongGen, stride 16: whole model, composed",
    }
    assert legend(drawing.figure) == [*labels.values(), "a slice of it, measured", "ideal, predicted"]
    slow = np.array([fake_training.slowness(length) for length in lengths])
    for pattern, label in labels.items():
        # the middle one of three rounds, and the quickest and the slowest
        seconds = 1.02 * slow * (known["rest"] + layers[pattern])
        bars, rates = errorbars(time)[label], errorbars(rate)[label]
        assert bars.lines[0].get_ydata() == pytest.approx(seconds)
        assert ends(bars) == pytest.approx(np.array([seconds / 1.02, 2 * seconds / 1.02]).T)
        assert rates.lines[0].get_ydata() == pytest.approx(np.array(lengths) / seconds)
        assert ends(rates) == pytest.approx((np.array(lengths) / np.array([2 * seconds / 1.02, seconds / 1.02])).T)
    found = [c for c in speed.containers if len(c.lines[0].get_ydata())]
    solid = {c.get_label(): c for c in found if c.lines[0].get_linestyle() == "-"}
    hollow = [c for c in found if c.lines[0].get_linestyle() == "None"]
    assert list(solid) == list(labels.values())[1:]
    for container, slice_of, pattern in zip(solid.values(), hollow, ("sink", "stride-16"), strict=True):
        whole = (known["rest"] + layers["full"]) / (known["rest"] + layers[pattern])
        assert container.lines[0].get_ydata() == pytest.approx([whole] * 2)
        eight = known["rest"] + 3 * known["full"] + 5 * known[pattern]
        assert slice_of.lines[0].get_ydata() == pytest.approx([(known["rest"] + 8 * known["full"]) / eight] * 2)
        assert slice_of.lines[0].get_markerfacecolor() == "white", "a slice is told from the whole model"
    dashed = [line.get_ydata() for line in speed.lines if line.get_linestyle() == "--"]
    rows = drawing.data[drawing.data["what"] == "composed model"]
    for ideals, pattern in zip(dashed, ("sink", "stride-16"), strict=True):
        assert ideals == pytest.approx(rows.loc[rows["pattern"] == pattern, "ideal_speedup"].to_numpy())
    assert [axes.get_ylabel() for axes in (time, rate, speed)] == [
        *("time of a step", "tokens per second", "speed-up over full")
    ]
    assert set(drawing.data.loc[drawing.data["what"] == "slice", "num_layers"]) == {8}
    assert drawing.data.loc[drawing.data["what"] == "slice", "tokens_per_second"].isna().all(), "no model's"


def test_inference_by_length(tmp_path: Path) -> None:
    records = fake_inference.fake_records(WHOLE, 32768) + fake_inference.fake_records(SLICES, 131072)
    fake_inference.write_gpu_run(tmp_path / "gpu", records)
    drawing = draw("inference_by_length", open_run("gpu", tmp_path))
    prefill, decode, cache = panels(drawing.figure)
    assert [panel.get_title() for panel in (prefill, decode, cache)] == [
        *("llama2-7b prefill", "llama2-7b decoding", "llama2-7b KV cache")
    ]
    labels = {"sink": "LongGen, sink", "stride-16": "LongGen, stride 16"}
    assert legend(drawing.figure) == [
        *(*labels.values(), "the whole model, measured", "composed of slices", "ideal, predicted")
    ]
    for panel, stage in ((prefill, "prefill"), (decode, "decode")):
        known = fake_inference.KNOWN[stage]
        for pattern, label in labels.items():
            ratio = (known["rest"] + 32 * known["full"]) / (known["rest"] + 12 * known["full"] + 20 * known[pattern])
            whole, composed = (c.lines[0] for c in panel.containers if c.get_label() == label)
            assert whole.get_xydata()[:, 1] == pytest.approx([ratio])
            assert composed.get_xydata()[:, 1] == pytest.approx([ratio])
            assert whole.get_xdata() == pytest.approx([32768], rel=0.1)
            assert composed.get_xdata() == pytest.approx([131072], rel=0.1)
            assert composed.get_markerfacecolor() == "white", "what is composed is told from what ran"
            assert whole.get_color() == variant_styles([f"longgen-{pattern[:6].rstrip('-')}"]).popitem()[1].color
    shares = [line.get_ydata()[0] for line in cache.lines]
    rows = drawing.data[drawing.data["what"] == "model-prefill"].sort_values(["pattern", "composed"])
    assert shares == pytest.approx(100 * rows["kv_fraction"].to_numpy())
    assert 100 * rows["kv_fraction"].iloc[1] == pytest.approx(38.0, abs=0.05), "the paper's -62 %"
    assert cache.get_ylabel() == "% of full attention"
    assert set(drawing.data["full_layers"]) == {12}
