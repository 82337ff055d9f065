"""What figure `kernels` draws, value by value, against the made-up times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from longgen.reporting.drawing import Drawing
from longgen.reporting.figures import FIGURES
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import paper_style, variant_styles
from tests.reporting import fake_kernels
from tests.reporting.fake_kernels import COPY, DAY, FLEX_LENGTHS, GPU, LENGTHS, Record, write_kernel_run

SINK, STRIDE, FULL = (
    look.color.lower() for look in variant_styles(["longgen-sink", "longgen-stride", "full"]).values()
)
COLORS = {"sink": SINK, "stride-16": STRIDE, "full": FULL}
FORWARD, BACKWARD, DECODE = 0, 2, 4  # panels of llama2-7b; those of llama2-70b follow each


def draw(run: Run) -> Drawing:
    with paper_style():
        drawing = FIGURES["kernels"](run)
        drawing.figure.draw_without_rendering()
    return drawing


@pytest.fixture(scope="module")
def drawing(kernel_run: Run) -> Drawing:
    return draw(kernel_run)


def seconds(stage: str, shape: str, length: int, pattern: str, name: str, batch: int = 1) -> float:
    """The made-up time, from its own file's formula."""
    return fake_kernels.time_of(fake_kernels.describe(stage, shape, length, batch, pattern, name))


def dense_seconds(stage: str, shape: str, length: int) -> float:
    return min(seconds(stage, shape, length, "full", name) for name in ("sdpa-flash", "sdpa-cudnn"))


def line(axes: Axes, label: str, color: str, dotted: bool = False) -> ErrorbarContainer:
    """The one line with markers that looks like this."""
    (found,) = [
        container
        for container in axes.containers
        if isinstance(container, ErrorbarContainer)
        and container.get_label() == label
        and to_hex(container.lines[0].get_color()) == color
        and (container.lines[0].get_linestyle() == "--") == dotted
    ]
    return found


def values(container: ErrorbarContainer) -> dict[int, float]:
    x, y = container.lines[0].get_data()
    return {round(length): value for length, value in zip(x, y, strict=True)}


def ends(container: ErrorbarContainer) -> np.ndarray:
    return np.array(container.lines[2][0].get_segments())[:, :, 1]


@pytest.mark.parametrize("stage", ["forward", "forward+backward"])
@pytest.mark.parametrize("shape", ["llama2-7b", "llama2-70b"])
@pytest.mark.parametrize("pattern", ["sink", "stride-16"])
def test_speedups_over_the_fastest_dense_kernel(drawing: Drawing, stage: str, shape: str, pattern: str) -> None:
    panel = (FORWARD if stage == "forward" else BACKWARD) + (shape == "llama2-70b")
    axes = drawing.figure.axes[panel]
    lengths = [*LENGTHS, *([262144] if panel == FORWARD else [])]  # at a million no dense kernel was measured
    label = {"sink": "LongGen (sink)", "stride-16": "LongGen (stride 16)"}[pattern]
    ours = line(axes, label, COLORS[pattern])
    wanted = {n: dense_seconds(stage, shape, n) / seconds(stage, shape, n, pattern, "longgen") for n in lengths}
    assert values(ours) == pytest.approx(wanted)
    assert ends(ours) == pytest.approx(np.array([[value / 1.02, value / 0.97] for value in wanted.values()]))
    for name, blocks in (("flex-128", 128), ("flex-64", 64)):
        if (name, shape, pattern) == ("flex-64", "llama2-70b", "sink"):
            continue  # it failed
        flex = line(axes, f"FlexAttention, blocks of {blocks}", COLORS[pattern])
        wanted = {n: dense_seconds(stage, shape, n) / seconds(stage, shape, n, pattern, name) for n in FLEX_LENGTHS}
        assert values(flex) == pytest.approx(wanted)
    own = line(axes, "LongGen (full attention)", FULL)
    wanted = {n: dense_seconds(stage, shape, n) / seconds(stage, shape, n, "full", "longgen full") for n in lengths}
    assert values(own) == pytest.approx(wanted)


def test_ideals_are_thin_dashed_and_follow_from_the_pattern_alone(drawing: Drawing) -> None:
    for panel in (FORWARD, BACKWARD, FORWARD + 1, BACKWARD + 1):
        axes = drawing.figure.axes[panel]
        lengths = [*LENGTHS, *([262144] if panel == FORWARD else [])]
        dashed = {to_hex(found.get_color()): found for found in axes.lines if found.get_linestyle() == "--"}
        assert set(dashed) == {SINK, STRIDE}
        for pattern in ("sink", "stride-16"):
            sparse = fake_kernels.PATTERNS[pattern]
            assert sparse is not None
            x, y = dashed[COLORS[pattern]].get_data()
            assert list(x) == lengths
            assert list(y) == pytest.approx([n * (n + 1) / 2 / sparse.attended_pairs(n) for n in lengths])
        assert [found.get_ydata()[0] for found in axes.lines if len(set(found.get_ydata())) == 1] == [1]
        assert {found.get_linewidth() for found in dashed.values()} == {0.8}
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("shape", ["llama2-7b", "llama2-70b"])
def test_decoding_in_bytes_per_second_below_the_copy_bandwidth(drawing: Drawing, shape: str) -> None:
    axes = drawing.figure.axes[DECODE + (shape == "llama2-70b")]
    lines = [
        *(("LongGen (full attention)", "full", 1, "longgen decode"), ("LongGen (sink)", "sink", 1, "longgen decode")),
        *(("LongGen (sink)", "sink", 16, "longgen decode"), ("LongGen (stride 16)", "stride-16", 1, "longgen decode")),
        ("LongGen (stride 16)", "stride-16", 16, "longgen decode"),
        ("PyTorch (SDPA), full attention", "full", 1, "sdpa decode"),
    ]
    assert len(axes.containers) == len(lines)
    for label, pattern, batch, name in lines:
        found = line(axes, label, COLORS[pattern], dotted=batch > 1)
        wanted = {}
        for length in LENGTHS:
            case = fake_kernels.describe("decode", shape, length, batch, pattern, name)
            wanted[length] = case["bytes"] / fake_kernels.time_of(case) / 1e9
        assert values(found) == pytest.approx(wanted)
        assert ends(found) == pytest.approx(np.array([[value / 1.02, value / 0.97] for value in wanted.values()]))
    assert [list(found.get_ydata()) for found in axes.lines if len(found.get_xdata()) == 2] == [[COPY / 1e9] * 2]
    assert [text.get_text() for text in axes.texts] == ["copy bandwidth of the device: 2,900 GB/s"]
    assert axes.get_ylim()[1] > COPY / 1e9


def test_words(drawing: Drawing, kernel_run: Run) -> None:
    figure = drawing.figure
    assert figure.texts[1].get_text() == f"run kernels-gpu \u00b7 {GPU} \u00b7 {DAY} \u00b7 bfloat16"
    assert [axes.get_title() for axes in figure.axes] == [
        *("llama2-7b: 32 heads, 32 KV heads\nforward", "llama2-70b: 64 heads, 8 KV heads\nforward"),
        *("forward+backward", "forward+backward", "decode", "decode"),
    ]
    assert [axes.get_ylabel() for axes in figure.axes][::2] == [*["speed-up over dense"] * 2, "bytes moved (GB/s)"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        *("LongGen (full attention)", "LongGen (sink)", "LongGen (stride 16)"),
        *("FlexAttention, blocks of 128", "FlexAttention, blocks of 64", "PyTorch (SDPA), full attention"),
        *("16 sequences at once", "ideal by sparsity, predicted", "fastest dense kernel (1\u00d7)"),
    }


def test_data_is_what_is_drawn_and_nothing_else(drawing: Drawing) -> None:
    drawn = sum(len(c.lines[0].get_xdata()) for axes in drawing.figure.axes for c in axes.containers)
    assert len(drawing.data) == drawn
    decode = drawing.data["stage"] == "decode"
    assert drawing.data.loc[decode, ["speedup", "ideal_speedup"]].isna().all(axis=None)
    assert drawing.data.loc[~decode, ["bytes_per_second", "copy_bandwidth"]].isna().all(axis=None)
    assert drawing.data.loc[~decode, ["speedup", "speedup_low", "ideal_speedup"]].notna().all(axis=None)
    assert set(drawing.data["implementation"]).isdisjoint({"sdpa-flash", "sdpa-cudnn", "flash-attn"})


def not_measured(record: Record) -> Record:
    measured = [name for name in record if name.startswith(("seconds", "speedup", "fraction", "ideal"))]
    measured += ["n", "flops_per_second", "bytes_per_second"]
    return record | dict.fromkeys(measured) | {"status": "not measured", "reason": "no time left"}


def test_a_panel_without_measurements_says_so(tmp_path: Path) -> None:
    def change(record: Record) -> Record:
        lost = record["stage"] == "decode" or (record["stage"], record["shape"]) == ("forward", "llama2-70b")
        return not_measured(record) if lost else record

    drawing = draw(open_run("kernels-gpu", write_kernel_run(tmp_path / "kernels-gpu", change).parent))
    said = [[text.get_text() for text in axes.texts] for axes in drawing.figure.axes]
    assert said == [[], ["not measured"], [], [], ["not measured"], ["not measured"]]
    for axes, texts in zip(drawing.figure.axes, said, strict=True):
        assert (len(axes.lines) == 0) == bool(texts)
    labels = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert "16 sequences at once" not in labels
    assert not any("SDPA" in label for label in labels)


def test_one_that_is_not_measured_leaves_its_line(tmp_path: Path) -> None:
    def change(record: Record) -> Record:
        lost = record["implementation"] == "longgen" and record["length"] == 32768 and record["pattern"] == "sink"
        return not_measured(record) if lost else record

    drawing = draw(open_run("kernels-gpu", write_kernel_run(tmp_path / "kernels-gpu", change).parent))
    ours = line(drawing.figure.axes[BACKWARD], "LongGen (sink)", SINK)
    assert list(values(ours)) == [length for length in LENGTHS if length != 32768]


def test_a_try_on_a_cpu_says_that_it_is_no_benchmark(tmp_path: Path) -> None:
    write_kernel_run(tmp_path / "kernels-cpu", tiny=True)
    note = draw(open_run("kernels-cpu", tmp_path)).figure.texts[1].get_text()
    assert note.endswith("bfloat16 \u00b7 CPU, tiny sizes: not a benchmark")
