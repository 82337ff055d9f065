"""Training steps of slices at tiny sizes on the CPU: what is computed, what is composed of it, and what is written."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ConfigError
from longgen.hybrid import Hybrid
from longgen.model import Model
from longgen.modeling import longgen_config
from longgen.pattern import SparsePattern
from longgen.profiling import device, gpu, rounds, stacks, training_parts, training_slice, training_speed
from longgen.profiling.composition import (
    HEAD,
    LAYER_KINDS,
    PARTS,
    REST,
    TOKENS,
    UPDATE,
    PartTime,
    composed_seconds,
    parts_of,
    seconds_of_parts,
)
from longgen.profiling.models import become
from longgen.profiling.session import Budget, Session
from longgen.profiling.stacks import SHAPES, TINY, Stack, slices, whole_models
from longgen.profiling.training_parts import TrainingParts, needed_bytes
from longgen.profiling.training_slice import TrainingSlice, layers_that_fit
from longgen.profiling.training_speed import TrainingCase, TrainingSpeed, composed_records, part_records
from longgen.records.kinds import KINDS
from longgen.reporting.claims import ledger
from longgen.reporting.report import write_claims, write_report
from longgen.reporting.run import open_run
from longgen.results import load_result
from longgen.training.base import shape_config
from tests.reporting.fake_training import KNOWN, LLAMA, fake_records, write_gpu_run

SMALL = SparsePattern(16, 1, 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 3)


@pytest.fixture
def small_patterns(monkeypatch):
    """Patterns that leave something out at a few tokens."""
    monkeypatch.setattr(stacks, "PATTERNS", {"sink": SMALL, "stride-16": replace(SMALL, stride=4)})


# ---------------------------------------------------------------- composition
@pytest.mark.parametrize("num_layers", [1, 2, 3, 5, 8])
def test_composition_recovers_known_seconds_of_layers(num_layers):
    stacks = slices(num_layers)
    assert parts_of({stack: composed_seconds(KNOWN, stack) for stack in stacks}) == pytest.approx(KNOWN)
    assert composed_seconds(KNOWN, Stack("sink", 32, 12)) == pytest.approx(0.7 + 12 * 1.5 + 20 * 0.4)
    assert len(stacks) == len(KNOWN) + (num_layers > 1), "one to spare, which tells how well the parts fit"


def test_slices_that_do_not_tell_layers_apart_are_refused():
    with pytest.raises(ValueError, match="do not tell the seconds of full, sink and the rest apart"):
        parts_of({Stack("sink", 8, 4): 3.0, Stack("sink", 4, 2): 1.5})


def test_slices_have_the_ratio_of_the_whole_model():
    assert slices(8)[1] == Stack("sink", 8, 3)
    assert {stack.full_layers for stack in whole_models(LLAMA)} == {32, 11, 12}
    assert Stack("sink", 8, 3).layout.full == (False, False, True, True, True, False, False, False)
    assert Stack("sink", 32, 12).layers == {"full": 12, "sink": 20}
    assert Stack("full", 4, 4).layers == {"full": 4}


def test_speedups_are_of_rounds_and_composed_ones_labelled():
    records = fake_records()
    by_stack = {(r.what, r.num_layers, r.full_layers, r.pattern): r for r in records}
    assert len(by_stack) == len(records)
    hybrid, whole = by_stack["slice", 8, 3, "sink"], by_stack["composed model", 32, 12, "sink"]
    assert hybrid.speedup == hybrid.speedup_low == pytest.approx((0.7 + 8 * 1.5) / (0.7 + 3 * 1.5 + 5 * 0.4))
    assert whole.speedup == pytest.approx((0.7 + 32 * 1.5) / (0.7 + 12 * 1.5 + 20 * 0.4))
    assert whole.ideal_speedup == pytest.approx(1.80, abs=0.01)
    assert whole.fraction_of_ideal == pytest.approx(whole.speedup / whole.ideal_speedup)
    assert whole.peak_bytes is None and hybrid.peak_bytes == 5
    assert by_stack["composed layer", 1, 1, "full"].seconds == pytest.approx(1.5)
    assert by_stack["composed layer", 1, 0, "sink"].seconds == pytest.approx(0.4)
    assert by_stack["composed rest", 0, 0, "full"].seconds == pytest.approx(0.7)
    assert by_stack["slice", 4, 0, "sink"].speedup is None, "there is no full attention of that depth"
    flops = Model(LLAMA, Hybrid(Stack("full", 32, 32).layout, SMALL)).training_flops(131072)
    full = by_stack["composed model", 32, 32, "full"]
    assert full.mfu == pytest.approx(flops / (0.7 + 32 * 1.5) / 989e12)
    assert all(abs(r.fit_error) < 1e-9 for r in records if r.what == "slice")


# ---------------------------------------------------------------- the step
def test_a_slice_computes_what_the_hybrid_of_its_layout_does(small_patterns):
    """Switching layers and leaving the upper ones out gives the loss of a model that was built so."""
    length, model = 128, TrainingSlice(TINY, 4, 128, "cpu", "float32")
    row, losses = model.row, {}
    for stack in slices(4):
        become(model.model, stack)
        config = shape_config(replace(TINY, num_layers=stack.num_layers), length)
        built = type(model.model)(longgen_config(config, stack.layout, stack.hybrid.pattern))
        weights = built.state_dict()
        built.load_state_dict({name: value for name, value in model.model.state_dict().items() if name in weights})
        with torch.no_grad():
            logits = built(row.inputs, use_cache=False).logits
            expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), row.targets.flatten())
            losses[stack] = model.module(row, torch.tensor(float(length))).loss.item()
        assert losses[stack] == pytest.approx(expected.item(), rel=1e-6)
    assert len(set(losses.values())) == len(losses), "every slice sees something else"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_trains_the_layers_of_the_slice_and_no_others(precision):
    """In bfloat16 as on a GPU: sharded by FSDP2 over the one process."""
    model = TrainingSlice(TINY, 4, 128, "cpu", precision)
    weights = [layer.mlp.up_proj.weight for layer in model.model.model.layers]
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert all(hasattr(weight, "full_tensor") == (precision == "bfloat16") for weight in weights)

    def changed(stack: Stack) -> list[bool]:
        before = [weight.detach().clone() for weight in weights]
        assert model.step(stack).seconds > 0
        return [not torch.equal(one, other) for one, other in zip(before, weights, strict=True)]

    assert changed(Stack("full", 4, 4)) == [True] * 4
    assert changed(Stack("sink", 2, 0)) == [True, True, False, False]
    assert model.setup.recompute and model.model.model.layers[0].gradient_checkpointing


class NothingExchanged(TorchDispatchMode):
    """Refuses what processes exchange with each other."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "c10d" not in func.namespace, func
        return func(*args, **(kwargs or {}))


def test_one_process_exchanges_nothing():
    """So that NCCL, which on a lone GPU may not work, is never asked."""
    model = TrainingSlice(TINY, 2, 64, "cpu", "bfloat16")
    with NothingExchanged():
        model.step(Stack("full", 2, 2))
    with pytest.raises(AssertionError, match="allreduce"), NothingExchanged():
        torch.distributed.all_reduce(torch.ones(1))


def test_a_loss_that_is_no_number_fails():
    model = TrainingSlice(TINY, 2, 64, "cpu", "float32")
    with torch.no_grad():
        model.model.lm_head.weight.fill_(math.nan)
    with pytest.raises(RuntimeError, match="loss is nan"):
        model.step(Stack("full", 2, 2))


# ---------------------------------------------------------------- parts, on a CPU
# by the names of `longgen.profiling.composition.PARTS`: such that layers take what is known of them
PIECES = {
    "full": PartTime(0.15, 8),
    "sink": PartTime(0.0125, 8),
    "stride-16": PartTime(0.03125, 8),
    TOKENS: PartTime(0.05, 4),
    HEAD: PartTime(0.25, 2),
    UPDATE: PartTime(0.1 / LLAMA.layer_weights, 1),
}


def test_layers_and_models_are_composed_of_parts():
    rest = 0.5 + 0.1 * 2 * LLAMA.head_weights / LLAMA.layer_weights
    known = {REST: rest, "full": 1.5, "sink": 0.4, "stride-16": 0.55}
    assert seconds_of_parts(PIECES, LLAMA) == pytest.approx(known)
    slow = {name: [part, PartTime(2 * part.seconds, part.occurrences)] for name, part in PIECES.items()}
    records, rounds = part_records(TrainingCase(LLAMA, 131072), "bfloat16", slow)
    assert {(r.what, r.pattern, r.note) for r in records} >= {
        ("attention of a share of heads", "sink", "counted 8 times"),
        ("a tile through a layer without attention", "full", "counted 4 times"),
    }
    composed = {
        (r.what, r.full_layers, r.pattern): r
        for r in composed_records(TrainingCase(LLAMA, 131072), "bfloat16", rounds, None)
    }
    assert composed["composed layer", 0, "sink"].seconds == pytest.approx(1.5 * 0.4)
    model = composed["composed model", 12, "sink"]
    assert model.seconds == pytest.approx(1.5 * (rest + 12 * 1.5 + 20 * 0.4))
    assert model.speedup == model.speedup_low == pytest.approx((rest + 48) / (rest + 18 + 8))
    assert (model.n, model.mfu) == (2, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_part_is_timed_and_leaves_no_weight_out(dtype, monkeypatch):
    monkeypatch.setattr(training_parts, "LAYER_TILE", 32)
    monkeypatch.setattr(training_parts, "HEAD_TILE", 48)
    model = TrainingParts(TINY, 96, dtype)
    found = {part: model.time(part) for part in PARTS if part not in (TOKENS, HEAD)}
    assert all(part.seconds > 0 for part in found.values())
    assert {found[kind].occurrences for kind in LAYER_KINDS} == {TINY.num_kv_heads}
    weights = dict(model.model.named_parameters())
    assert model.time(TOKENS).occurrences == 3
    in_layers = {name for name, weight in weights.items() if weight.grad is not None and weight.grad.any()}
    assert in_layers == {name for name in weights if ".layers." in name}
    assert model.time(HEAD).occurrences == 2
    outside = {name for name, weight in weights.items() if weight.grad is not None and weight.grad.any()}
    assert outside == weights.keys() - in_layers


def on_cpu(monkeypatch) -> None:
    """As if the tiny model were a true shape."""
    monkeypatch.setattr(training_speed, "is_large_for", lambda device, shape: True)
    monkeypatch.setattr(TrainingSlice, "step", None)


def test_parts_are_timed_in_rounds_as_the_budget_allows(tmp_path, monkeypatch):
    on_cpu(monkeypatch)
    times = dict.fromkeys(PARTS, PartTime(1e-3, 1))
    monkeypatch.setattr(TrainingParts, "time", lambda self, part: times[part])
    monkeypatch.setattr(TrainingParts, "forecast", lambda self, part, tokens: 1e6 if self.length > 64 else 0.0)
    short, long = (TINY, 64), (TINY, 96)
    records = run(tmp_path, long, short)
    assert {(r["length"], r["status"]) for r in records} == {(64, "measured"), (96, "not measured")}
    assert {r["n"] for r in records if r["length"] == 64} == {3}
    assert "predicted to take 50,000" in next(r["reason"] for r in records if r["length"] == 96)
    assert {r["what"] for r in records if r["length"] == 64} >= {"composed rest", "composed layer", "composed model"}
    report = write_report(open_run("tries", tmp_path), tmp_path / "figures")
    assert not report.omissions
    text = (tmp_path / "figures" / "training_speed.md").read_text()
    assert "attention of a share of heads, measured" in text


def test_a_single_round_has_no_interval(tmp_path, monkeypatch):
    on_cpu(monkeypatch)
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 1)
    records = run(tmp_path, (TINY, 64))
    assert {(r["n"], r["seconds_low"], r["speedup_high"]) for r in records} == {(1, None, None)}
    assert "whole model, composed" in write_and_read(tmp_path)


def write_and_read(folder) -> str:
    assert not write_report(open_run("tries", folder), folder / "figures").omissions
    return (folder / "figures" / "training_speed.md").read_text()


def test_parts_that_do_not_fit_are_refused_before_anything_is_made(tmp_path, monkeypatch):
    on_cpu(monkeypatch)
    monkeypatch.setattr(training_parts, "random_stack", None)
    monkeypatch.setattr(training_speed, "free_main_memory", lambda: 2**30)
    (record,) = run(tmp_path, (SHAPES["llama2-7b"], 131072))
    assert record["status"] == "unsupported"
    assert re.fullmatch(
        r"the parts of a layer: predicted to need [\d.]+ GiB: there are 1.0 GiB of main memory that is free",
        record["reason"],
    )
    assert needed_bytes(SHAPES["llama2-70b"], 131072, 2) < 20 * 2**30, "of a layer in work as a whole it is 97 GiB"


# ---------------------------------------------------------------- memory and time
def test_as_many_layers_as_fit(monkeypatch):
    def fitting(shape: str, length: int, gib: float) -> list[int]:
        monkeypatch.setattr(training_slice, "available_memory", lambda processes: (int(gib * 2**30), "GPU memory"))
        return layers_that_fit(SHAPES[shape], length, "cuda", "bfloat16", 8)

    assert fitting("llama2-7b", 131072, 78.5)[0] == 8, "one H100 takes the slice at the paper's scale"
    fewer = fitting("llama2-7b", 131072, 60)
    assert fewer == list(range(fewer[0], 0, -1))
    assert 2 < fewer[0] < 8
    with pytest.raises(ValueError, match=r"a layer is predicted to need 102 GiB: there are 78 GiB of GPU memory"):
        fitting("llama2-70b", 131072, 78)


def run(folder, *cases, budget: float = 3600, **options) -> list[dict]:
    session = Session(TrainingSpeed("cpu", trial=True, **options), folder, "tries", Budget(budget))
    session.run(TrainingCase(*case) for case in cases)
    return load_result(session.path).records


def test_out_of_memory_takes_fewer_layers_and_is_noted(tmp_path, monkeypatch):
    step = TrainingSlice.step

    def limited(self, stack):
        if len(self.model.model.layers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, stack)

    monkeypatch.setattr(TrainingSlice, "step", limited)
    records = run(tmp_path, (TINY, 64), most_layers=4)
    assert {record["note"] for record in records} == {"4 layers: ran out of memory; 3 layers: ran out of memory"}
    assert max(record["num_layers"] for record in records if record["what"] == "slice") == 2
    assert {record["status"] for record in records} == {"measured"}


def test_no_time_for_what_fits_leaves_it_to_the_next_session(tmp_path, monkeypatch):
    """By the FLOPs of as many layers as fit, at the rate of the device."""
    monkeypatch.setattr(rounds, "least_flops", lambda device: 1e3)
    (record,) = run(tmp_path, (TINY, 64))
    assert (record["status"], record["seconds"]) == ("not measured", None)
    assert record["reason"].startswith("no time left: predicted to take ")
    monkeypatch.setattr(rounds, "least_flops", lambda device: 1e15)
    assert {record["status"] for record in run(tmp_path, (TINY, 64), most_layers=2)} == {"measured"}


def test_what_would_outlast_its_minutes_on_a_cpu_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "product_flops", lambda name, precision: 1e11)
    monkeypatch.setattr(TrainingSlice, "step", None)
    words = ["profile", "train", "--device", "cpu", "--output", str(tmp_path), "--lengths", "131072,32768"]
    done = CliRunner().invoke(app, [*words, "--minutes", "1"], catch_exceptions=False)
    assert done.exit_code == 0
    (path,) = tmp_path.rglob("training-speed.json")
    records = load_result(path).records
    assert [(record["length"], record["status"]) for record in records] == [
        (131072, "not measured"),
        (32768, "not measured"),
    ]
    assert all(record["reason"].startswith("no time left") for record in records)
    assert "predicted to take" in records[0]["reason"]


# ---------------------------------------------------------------- both commands, and what reporting makes of it
@pytest.mark.slow
def test_both_commands_write_what_reporting_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(training_speed, "slices", lambda most: slices(2))
    common = ["--device", "cpu", "--output", str(tmp_path), "--minutes", "60"]
    assert gpu.main([*common, "--only", "training"]) == 0
    path = tmp_path / "kernels-cpu" / "kernels" / "training-speed.json"
    before = load_result(path)
    assert {record["length"] for record in before.records} == {512, 1024}
    assert {record["shape"] for record in before.records} == {"tiny"}
    done = CliRunner().invoke(app, ["profile", "train", *common, "--lengths", "512, 256"])
    assert done.exit_code == 0, done.output
    assert "composed model" in done.output
    after = load_result(path)
    assert {record["length"] for record in after.records} == {512, 1024, 256}, "one file, which both go on with"
    assert after.records[: len(before.records)] == before.records
    opened = open_run("kernels-cpu", tmp_path)
    assert sorted(opened.frame("training-speed").columns) == sorted(KINDS["training-speed"].column_names)
    report = write_report(opened, tmp_path / "figures")
    assert {path.name for path in report.files} >= {"training_by_length.png", "training_by_length.csv"}
    text = (tmp_path / "figures" / "training_speed.md").read_text()
    assert "not a benchmark" in text
    assert "whole model, composed" in text
    assert ledger([opened])["measured"].isna().all(), "a tiny model answers no claim"


def test_the_other_profile_still_needs_no_verb(tmp_path):
    for arguments in (
        ["x.yaml", "--output", "y"],
        ["--output", "y", "x.yaml"],
        ["experiment", "x.yaml", "--output", "y"],
    ):
        done = CliRunner().invoke(app, ["profile", *arguments])
        assert "x.yaml does not exist" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "qwen3-8b"], "--shape is 'qwen3-8b': allowed are llama2-7b"),
        (["--layers", "0"], "--layers is 0: allowed are 1..16 with tiny"),
        (["--lengths", "128K"], "--lengths is '128K': allowed are whole numbers"),
        (["--device", "cuda:x"], "--device is 'cuda:x': allowed are cpu"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "inference"])
def test_bad_options_are_refused(verb, options, message, tmp_path):
    found = CliRunner().invoke(app, ["profile", verb, "--device", "cpu", "--output", str(tmp_path), *options])
    assert isinstance(found.exception, ConfigError)
    assert str(found.exception).startswith(message)
    assert not list(tmp_path.iterdir())


def test_the_ledger_takes_the_composed_model_and_says_so(tmp_path):
    write_gpu_run(tmp_path / "gpu", fake_records(noise=0.01))
    rows = ledger([open_run("gpu", tmp_path)]).set_index(["claim", "variant"])
    training = rows.loc["training-speedup"]
    assert list(training.index) == ["longgen-sink", "longgen-stride", "longgen-sink-12-layers"]
    expected = (0.7 + 32 * 1.5) / (0.7 + 12 * 1.5 + 20 * 0.4)
    assert training.loc["longgen-sink-12-layers", "measured"] == pytest.approx(expected)
    assert training.loc["longgen-stride", "measured"] == pytest.approx(48.7 / (0.7 + 11 * 1.5 + 21 * 0.55))
    assert set(training["device"]) == {"Pretend GPU, composed from slices of 8 layers"}
    assert set(training["verdict"]) == {"exceeded"}
    assert set(training["run"]) == {"gpu"}
    assert rows.loc[rows.index.get_level_values("claim") != "training-speedup", "measured"].isna().all()


def test_what_a_cpu_measured_leaves_a_row_for_a_gpu(tmp_path):
    records, rounds = part_records(
        TrainingCase(LLAMA, 131072), "bfloat16", {name: [part] * 3 for name, part in PIECES.items()}
    )
    records += composed_records(TrainingCase(LLAMA, 131072), "bfloat16", rounds, None)
    write_gpu_run(tmp_path / "cpu", records, {"kind": "cpu", "name": "Pretend CPU"})
    opened = open_run("cpu", tmp_path)
    rows = ledger([opened])
    rows = rows[(rows["claim"] == "training-speedup") & (rows["variant"] == "longgen-sink-12-layers")]
    assert list(zip(rows["run"].fillna(""), rows["device"], rows["verdict"], strict=True)) == [
        ("cpu", "Pretend CPU, composed from parts of single layers", "share reached"),
        ("", "a GPU", "not measured"),
    ]
    write_claims([opened], tmp_path / "claims")
    text = (tmp_path / "claims" / "claims.md").read_text()
    assert "cpu, Pretend CPU, composed from parts of single layers |" in text
    assert text.count("| a GPU ") == 3, "of training alone, for each variant: nothing else was measured"
    write_gpu_run(tmp_path / "gpu", fake_records(noise=0.01))
    both = ledger([opened, open_run("gpu", tmp_path)])
    assert "a GPU" not in set(both["device"])


@pytest.mark.parametrize("change", [{"length": 65536}, {"shape": "llama2-13b"}, {"status": "failed"}])
def test_other_lengths_and_models_do_not_answer_the_claim(tmp_path, change):
    write_gpu_run(tmp_path / "gpu", [replace(record, **change) for record in fake_records()])
    assert set(ledger([open_run("gpu", tmp_path)])["verdict"]) == {"not measured"}


def test_nothing_measured_is_drawn_and_written_as_such(tmp_path):
    run(tmp_path, (TINY, 64), budget=0)
    report = write_report(open_run("tries", tmp_path), tmp_path / "figures")
    assert not report.omissions
    assert (tmp_path / "figures" / "training_by_length.csv").read_text().count("\n") == 1, "the header"
    text = (tmp_path / "figures" / "training_speed.md").read_text()
    assert "Not measured." in text
    assert "not measured: tiny, 64 tokens: no time left" in text
