"""Inference at a model's true shape, at tiny sizes on the CPU: what is computed, composed, resumed and reported."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from longgen.cache_layout import GROWTH_TOKENS
from longgen.cli import app
from longgen.hybrid import Hybrid
from longgen.model import Model
from longgen.modeling import LongGenCache
from longgen.pattern import SparsePattern
from longgen.profiling import fastest, gpu, inference_measure, inference_model, inference_speed, rounds, stacks
from longgen.profiling.device import precision_on
from longgen.profiling.fastest import PrefillConfig, chunk_on
from longgen.profiling.inference_measure import largest
from longgen.profiling.inference_model import InferenceStack, storage_bytes
from longgen.profiling.inference_records import (
    CACHE,
    FILLED,
    SLICES,
    WHOLE,
    InferenceCase,
    layer_bytes,
    predicted_bytes,
)
from longgen.profiling.inference_speed import InferenceSpeed, cases_of
from longgen.profiling.session import Budget, Session
from longgen.profiling.stacks import SHAPES, TINY, Stack, slices
from longgen.records.kernels import InferenceSpeedRecord
from longgen.records.kinds import KINDS
from longgen.reporting.claims import ledger
from longgen.reporting.report import write_report
from longgen.reporting.run import open_run
from longgen.results import load_result
from tests.reporting.fake_inference import fake_records

SMALL = SparsePattern(16, 1, 2)
LLAMA = SHAPES["llama2-7b"]
SMALLEST = replace(TINY, num_layers=3)
GIB = 2**30


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rounds, "MOST_ROUNDS", 3)
    monkeypatch.setattr(inference_model, "DECODED_TOKENS", 1)
    monkeypatch.setattr(inference_measure, "TINY_MOST_TOKENS", 192)


@pytest.fixture
def small_patterns(monkeypatch):
    """Patterns that leave something out at a few tokens."""
    monkeypatch.setattr(stacks, "PATTERNS", {"sink": SMALL, "stride-16": replace(SMALL, stride=4)})


# ---------------------------------------------------------------- composition
def by_stack(records: list[InferenceSpeedRecord]) -> dict[tuple, InferenceSpeedRecord]:
    keyed = {(r.what, r.num_layers, r.full_layers, r.pattern, r.composed): r for r in records}
    assert len(keyed) == len(records)
    return keyed


def test_the_whole_model_is_composed_of_slices_and_says_so():
    found = by_stack(fake_records(SLICES))
    whole = found["model-prefill", 32, 12, "sink", True]
    assert whole.speedup == pytest.approx((0.01 + 32 * 0.5) / (0.01 + 12 * 0.5 + 20 * 0.1))
    ideal = [Model(LLAMA, s.hybrid).prefill_flops(131072) for s in (Stack("full", 32, 32), Stack("sink", 32, 12))]
    assert (whole.flops, whole.bytes) == (ideal[1], None)
    assert whole.ideal_speedup == pytest.approx(ideal[0] / ideal[1])
    assert whole.fraction_of_ideal == pytest.approx(whole.speedup / whole.ideal_speedup)
    # -62.0 %, to the byte: what the planner says, from the bytes of eight layers
    sizes = [found["model-prefill", 32, full, pattern, True].kv_bytes for full, pattern in ((32, "full"), (12, "sink"))]
    assert sizes[0] == 64 * GIB
    assert sizes[1] == Model(LLAMA, Hybrid(Stack("sink", 32, 12).layout, SparsePattern(64, 1, 16))).kv_cache_bytes(
        131072
    )
    assert 1 - sizes[1] / sizes[0] == pytest.approx(0.620, abs=5e-4)
    decode = found["model-decode", 32, 12, "stride-16", True]
    assert decode.seconds == pytest.approx(1.01 * (1e-4 + 12 * 7e-4 + 20 * 1.5e-4))
    layout = Stack("stride-16", 32, 12)
    assert decode.bytes == Model(LLAMA, layout.hybrid).decode_bytes(131072)
    assert decode.flops is None
    assert (whole.peak_bytes, found["slice-prefill", 8, 3, "sink", False].peak_bytes) == (None, 7 * GIB)
    assert all(abs(r.fit_error) < 1e-9 for r in found.values() if r.what.startswith("slice"))
    assert found["slice-decode", 4, 0, "sink", False].speedup is None, "there is no full attention of that depth"


def test_a_whole_model_without_full_attention_beside_it_has_no_speedup():
    found = by_stack(fake_records(WHOLE, found=[Stack("sink", 32, 12)]))
    row = found["model-prefill", 32, 12, "sink", False]
    assert row.seconds == pytest.approx(1.01 * (0.01 + 12 * 0.5 + 20 * 0.1))
    assert row.speedup is row.ideal_speedup is row.fit_error is None


def test_bytes_of_layers_follow_from_stacks():
    assert layer_bytes({Stack("full", 8, 8): 800, Stack("sink", 8, 3): 350, Stack("sink", 4, 0): 40}) == {
        "full": 100,
        "sink": 10,
    }


# ---------------------------------------------------------------- memory
@pytest.mark.parametrize("fitting", range(9))
def test_the_largest_that_fits(fitting):
    tried = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= fitting

    assert largest(fits, 8) == fitting
    assert len(tried) <= 5
    assert largest(fits, 0) == 0


def test_full_attention_at_the_papers_scale_barely_leaves_room_on_80_gb():
    def needed(name: str, full_layers: int, length: int, chunk: int) -> float:
        return predicted_bytes(LLAMA, Stack(name, 32, full_layers), length, chunk, 2) / GIB

    assert 77 < needed("full", 32, 131072, 8192) < 78
    assert needed("full", 32, 131072, 131072) > 85, "at once only on a larger GPU"
    assert needed("sink", 12, 131072, 8192) < 40
    assert needed("sink", 12, 262144, 8192) < 65


@pytest.mark.parametrize("name", ["sink", "stride-16"])
def test_the_bytes_of_a_cache_counted_layer_by_layer_are_the_planned_ones(name):
    """At the paper's scale, and where the tokens are no multiple of anything."""
    for length in (131072, 10007):
        sizes = {}
        for stack in (Stack("full", 32, 32), Stack(name, 32, 12 if name == "sink" else 11)):
            counted = storage_bytes(LLAMA, stack, length, 1, "meta", torch.bfloat16)
            assert counted == stack.model(LLAMA).kv_cache_bytes(length, full_chunk=GROWTH_TOKENS)
            sizes[stack.pattern] = counted
        if length == 131072:
            assert 1 - sizes[name] / sizes["full"] == pytest.approx({"sink": 0.620, "stride-16": 0.610}[name], abs=5e-4)


# ---------------------------------------------------------------- what runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_layers_and_none_are_read_and_decoded(dtype, small_patterns):
    tiny = InferenceStack(SMALLEST, 1, "cpu", dtype)
    for stack in slices(1):
        found = tiny.prefill(stack, 100, PrefillConfig("sdpa", 64))
        size = dtype.itemsize
        planned = stack.num_layers and stack.model(SMALLEST).kv_cache_bytes(100, size, full_chunk=GROWTH_TOKENS)
        assert found.kv_bytes == planned
        assert tiny.decode(stack, 100, "sdpa", capture=False).timing.seconds > 0


def test_prefill_in_chunks_and_decoding_compute_what_the_model_does(small_patterns):
    """Chunks and the cache of fixed shapes give the tokens of one pass over all; and the cache has the planned size."""
    tiny, stack = InferenceStack(SMALLEST, 3, "cpu", torch.float32), Stack("stride-16", 3, 1)
    found = tiny.prefill(stack, 256, PrefillConfig("sdpa", 100))
    assert found.kv_bytes == Model(SMALLEST, stack.hybrid).kv_cache_bytes(256, 4)
    assert found.timing.seconds > 0
    tokens = torch.randint(256, (1, 256))
    with torch.no_grad():
        cache, fixed = tiny._empty(stack, 256), tiny._fixed(stack, 255)
        assert [part.head_pattern.pattern is None for _, part in cache.parts()] == [False, True, False]
        for part in tokens.split(100, dim=1):
            logits = tiny.model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        expected = tiny.model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        # the same made-up past in a cache that grows and in one of fixed shapes
        exact = tiny._empty(stack, 256)
        for (_, part), (_, slots) in zip(exact.parts(), fixed.parts(), strict=True):
            kept = slots.mark_seen(255)
            part.restore({"keys": slots.keys[:, :, kept].clone(), "values": slots.values[:, :, kept].clone()}, 255)
        token = tokens[:, :1]
        one, other = (
            tiny.model(input_ids=token, past_key_values=each, use_cache=True).logits for each in (exact, fixed)
        )
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class NothingWaits(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: reading a number back, and tensors made on the host."""

    REFUSED = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.REFUSED, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("pattern", ["full", "sink", "stride-16"])
def test_a_decode_step_can_be_captured(pattern, small_patterns):
    tiny = InferenceStack(SMALLEST, 3, "cpu", torch.float32)
    stack = Stack(pattern, 3, 3 if pattern == "full" else 1)
    tiny._use(stack, "sdpa")
    with torch.no_grad():
        cache = tiny._fixed(stack, 100)
        addresses = [tensor.data_ptr() for _, part in cache.parts() for tensor in part.tensors().values()]
        step = tiny.decode_step(cache)
        with NothingWaits():
            step()
            step()
    assert [int(part.seen) for _, part in cache.parts()] == [102] * 3
    assert addresses == [tensor.data_ptr() for _, part in cache.parts() for tensor in part.tensors().values()]


def test_what_refuses_to_wait_would_notice():
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingWaits():
        torch.ones(1).item()


# ---------------------------------------------------------------- sessions
def run(folder, *found: InferenceCase, budget: float = 3600, **options) -> list[dict]:
    session = Session(InferenceSpeed("cpu", trial=True, **options), folder, "tries", Budget(budget))
    session.run(found)
    return load_result(session.path).records


def limit_full_attention(monkeypatch, most_tokens: int) -> None:
    """Runs out of memory where all layers are full, and hold more tokens."""
    update = LongGenCache.update

    def limited(self, *arguments, **options):
        done = update(self, *arguments, **options)
        if all(part.head_pattern.pattern is None for _, part in self.parts()) and self.get_seq_length() > most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return done

    monkeypatch.setattr(LongGenCache, "update", limited)


def test_where_full_attention_does_not_fit_the_rest_is_measured_and_both_compared_below(
    tmp_path, monkeypatch, small_patterns
):
    limit_full_attention(monkeypatch, 150)
    records = run(
        tmp_path, InferenceCase(WHOLE, SMALLEST, 256), InferenceCase(FILLED, SMALLEST), InferenceCase(WHOLE, SMALLEST)
    )
    longest = {r["pattern"]: r["length"] for r in records if r["what"] == "longest-context"}
    assert longest == {"full": 128, "sink": 192, "stride-16": 192}, "multiples of 64"
    assert [r["note"] for r in records if r["what"] == "longest-context"] == [
        None,
        *["no more than 192 tokens were tried"] * 2,
    ]
    at_256 = [r for r in records if r["what"] == "model-prefill" and r["length"] == 256]
    assert {(r["pattern"], r["status"]) for r in at_256} == {
        ("full", "unsupported"),
        ("sink", "measured"),
        ("stride-16", "measured"),
    }
    assert {r["reason"] for r in at_256 if r["pattern"] == "full"} == {"ran out of memory"}
    assert {r["speedup"] for r in at_256} == {None}
    both = [r for r in records if r["what"] == "model-decode" and r["length"] == 128]
    assert {r["status"] for r in both} == {"measured"}
    assert all(r["speedup"] is not None for r in both)


def test_memory_that_runs_out_between_rounds_costs_full_attention_alone(tmp_path, monkeypatch):
    decode = InferenceStack.decode

    def limited(self, stack, *arguments):
        if stack.pattern == "full":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, stack, *arguments)

    monkeypatch.setattr(InferenceStack, "decode", limited)
    records = run(tmp_path, InferenceCase(WHOLE, SMALLEST, 64))
    assert {(r["pattern"], r["status"], r["reason"]) for r in records} == {
        ("full", "unsupported", "ran out of memory"),
        ("sink", "measured", None),
        ("stride-16", "measured", None),
    }
    assert {r["speedup"] for r in records} == {None}


def test_a_slice_that_does_not_fit_gives_way_to_a_smaller_one(tmp_path, monkeypatch):
    build = InferenceStack.__init__

    def limited(self, shape, num_layers, *arguments):
        if num_layers > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        build(self, shape, num_layers, *arguments)

    monkeypatch.setattr(InferenceStack, "__init__", limited)
    records = run(tmp_path, InferenceCase(SLICES, SMALLEST, 64), most_layers=3)
    assert {r["status"] for r in records} == {"measured"}
    assert max(r["num_layers"] for r in records if not r["composed"]) == 2
    assert {r["note"] for r in records if not r["composed"]} == {"3 layers: ran out of memory"}


def test_what_is_predicted_not_to_fit_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(inference_measure, "free_main_memory", lambda: 1000)
    monkeypatch.setattr(InferenceStack, "__init__", None)
    monkeypatch.setattr(inference_measure, "storage_bytes", None)
    found = [
        InferenceCase(SLICES, TINY, 64),
        InferenceCase(WHOLE, TINY, 64),
        InferenceCase(CACHE, TINY, 64),
        InferenceCase(FILLED, TINY),
    ]
    records = run(tmp_path, *found)
    assert {r["status"] for r in records} == {"unsupported"}
    whats = {"slice-prefill", "model-prefill", "model-decode", "kv-cache", "longest-context"}
    assert {r["what"] for r in records} == whats
    assert "predicted to need 0.0 GiB: there are 0.0 GiB of main memory that is free" in records[0]["reason"]


def test_no_time_for_the_rounds_leaves_them_to_the_next_session(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "least_flops", lambda device: 1e3)
    monkeypatch.setattr(inference_measure, "time_stacks", None)
    (record,) = run(tmp_path, InferenceCase(SLICES, TINY, 512))
    assert record["status"] == "not measured"
    assert record["reason"].startswith("no time left: predicted to take ")


def test_a_step_that_cannot_be_captured_is_timed_without_and_noted(monkeypatch):
    tiny = InferenceStack(SMALLEST, 3, "cpu", torch.float32)
    monkeypatch.setattr(tiny, "device", "cuda")
    monkeypatch.setattr(inference_measure, "free_memory", lambda device: None)

    def refusing(*arguments, capture):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(tiny, "decode", refusing)
    note = "without a CUDA graph: operation not permitted when stream is capturing"
    assert inference_measure._capture(tiny, [Stack("full", 3, 3)], 64, "sdpa") == (False, note)


def as_if_large(monkeypatch) -> None:
    """As if the tiny model were a true shape on a CPU: in bfloat16, and nothing is tried."""
    for module in (stacks, inference_speed, inference_measure, fastest):
        for name, answer in (("is_large_for", True), ("is_trial", False)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda device, shape, answer=answer: answer)


def test_true_shapes_on_a_cpu_are_composed_of_single_layers(tmp_path, monkeypatch, small_patterns):
    as_if_large(monkeypatch)
    monkeypatch.setattr(inference_measure, "WARM_UP_TOKENS", 16)
    monkeypatch.setattr(InferenceStack, "attempt", None)
    monkeypatch.setattr(inference_measure, "attention_rate", lambda shape, kind, precision: 1e9)
    records = run(tmp_path, InferenceCase(SLICES, SMALLEST, 96), InferenceCase(CACHE, SMALLEST, 96), most_layers=1)
    assert {r["status"] for r in records} == {"measured"}
    assert {r["dtype"] for r in records} == {precision_on("cpu")}
    assert {(r["num_layers"], r["fit_error"]) for r in records if r["what"] == "slice-prefill"} == {
        (0, None),
        (1, None),
    }
    composed = [r for r in records if r["composed"]]
    assert {r["num_layers"] for r in composed} == {3}
    counted = {(r["full_layers"], r["pattern"]): r["kv_bytes"] for r in records if r["what"] == "kv-cache"}
    prefilled = {(r["full_layers"], r["pattern"]): r["kv_bytes"] for r in composed if r["what"] == "model-prefill"}
    assert counted == prefilled
    monkeypatch.setattr(inference_measure, "attention_rate", lambda shape, kind, precision: 1e-9)
    (late,) = run(tmp_path, InferenceCase(SLICES, SMALLEST, 64), most_layers=1)[len(records) :]
    assert late["status"] == "not measured" and late["reason"].startswith("no time left: predicted to take ")


def test_seconds_are_forecast_of_each_kinds_operations(monkeypatch):
    rates = {"full": 2e12, "sink": 1e11, "stride-16": 4e11}
    monkeypatch.setattr(inference_measure, "attention_rate", lambda shape, kind, precision: rates[kind])
    monkeypatch.setattr(inference_measure, "product_flops", lambda device, precision: 1e12)
    full, sink = (inference_measure.prefill_seconds(LLAMA, stack, 131072, 1, "bfloat16") for stack in slices(1)[:2])
    weights = 2 * (131072 * LLAMA.layer_weights + LLAMA.head_weights) / 5e11
    assert full - weights == pytest.approx(4 * 4096 * 131072 * 131073 / 2 / 2e12)
    assert sink - weights == pytest.approx(22.6, abs=0.01), "2.26 T operations, docs/kernels.md"


# ---------------------------------------------------------------- commands, and what reporting makes of it
@pytest.mark.slow
def test_both_commands_write_what_reporting_reads(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", SMALLEST)
    common = ["--device", "cpu", "--output", str(tmp_path), "--minutes", "60"]
    monkeypatch.setattr(InferenceSpeed, "first_cases", lambda self: [InferenceCase(SLICES, SMALLEST, 64)])
    monkeypatch.setattr(InferenceSpeed, "more_cases", lambda self: [InferenceCase(WHOLE, SMALLEST, 64)])
    assert gpu.main([*common, "--only", "inference"]) == 0
    path = tmp_path / "kernels-cpu" / "kernels" / "inference-speed.json"
    before = load_result(path)
    options = ["--lengths", "64, 32", "--layers", "2", "--shape", "tiny", "--batch", "1"]
    done = CliRunner().invoke(app, ["profile", "inference", *common, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "composed" in done.output
    after = load_result(path)
    assert {record["length"] for record in after.records if record["what"] != "longest-context"} == {64, 32}
    assert after.records[: len(before.records)] == before.records, "one file, which both go on with"
    opened = open_run("kernels-cpu", tmp_path)
    assert sorted(opened.frame("inference-speed").columns) == sorted(KINDS["inference-speed"].column_names)
    report = write_report(opened, tmp_path / "figures")
    assert {path.name for path in report.files} >= {"inference_by_length.png", "inference_by_length.csv"}
    text = (tmp_path / "figures" / "inference_speed.md").read_text()
    assert "not a benchmark" in text
    assert "prefill, composed" in text
    assert "Longest context in memory" in text
    assert ledger([opened])["measured"].isna().all(), "a tiny model answers no claim"


def test_the_order_of_cases_is_that_of_what_is_missed_most():
    found = cases_of(LLAMA, [131072, 32768])
    assert [(case.how, case.length) for case in found] == [
        *((SLICES, 131072), (WHOLE, 131072), (CACHE, 131072), (FILLED, None), (WHOLE, None)),
        *((WHOLE, 32768), (SLICES, 32768)),
    ]
    on_cpu = cases_of(LLAMA, [32768, 131072, 4096], device="cpu")
    assert [(case.how, case.length) for case in on_cpu] == [
        *((SLICES, 131072), (CACHE, 131072), (SLICES, 32768), (SLICES, 4096)),
    ]
    stage = InferenceSpeed("cuda", trial=False, batch=4)
    assert [case.how for case in stage.more_cases() if case.shape.name == "llama2-70b"] == [SLICES] * 6
    assert {case.batch for case in (*stage.first_cases(), *stage.more_cases())} == {4}


def test_batches_are_cases_of_their_own(tmp_path, small_patterns):
    """Twice the sequences: twice the cache and the operations of a prompt, of weights read once; and other records."""
    both = [
        InferenceCase(how, SMALLEST, length, batch) for batch in (1, 2) for how, length in ((WHOLE, 96), (FILLED, None))
    ]
    records = run(tmp_path, *both)
    found = {(r["what"], r["batch"], r["pattern"], r["full_layers"]): r for r in records}
    assert len(found) == len(records) and {record["status"] for record in records} == {"measured"}
    for (what, batch, *stack), one in found.items():
        if batch == 1 and what != "longest-context":
            two = found[what, 2, *stack]
            assert two["kv_bytes"] == 2 * one["kv_bytes"]
            if what == "model-prefill":
                assert two["flops"] == 2 * one["flops"]
            else:
                weights = SMALLEST.parameters * 4
                assert two["bytes"] - weights == 2 * (one["bytes"] - weights)
    assert run(tmp_path, *both) == records, "each is done"


def test_a_forward_pass_has_as_many_tokens_whatever_the_batch():
    assert [chunk_on("cuda", LLAMA, batch) for batch in (1, 3, 16, 64)] == [8192, 2688, 512, 128]
    assert (chunk_on("cpu", LLAMA, 1), chunk_on("cpu", TINY, 1), chunk_on("cpu", TINY, 64)) == (8192, 128, 64)


@pytest.mark.parametrize("batch", ["0", "65"])
def test_impossible_batches_are_refused(batch, tmp_path, capsys):
    options = ["--device", "cpu", "--output", str(tmp_path), "--batch", batch]
    found = CliRunner().invoke(app, ["profile", "inference", *options])
    assert str(found.exception) == f"--batch is {batch}: allowed are 1..64"
    with pytest.raises(SystemExit):
        gpu.main(options)
    assert f"--batch is {batch}: allowed are 1..64" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_measured_is_drawn_and_written_as_such(tmp_path):
    run(tmp_path, InferenceCase(SLICES, TINY, 64), InferenceCase(FILLED, TINY), budget=0)
    report = write_report(open_run("tries", tmp_path), tmp_path / "figures")
    assert not report.omissions
    assert (tmp_path / "figures" / "inference_by_length.csv").read_text().count("\n") == 1, "the header"
    text = (tmp_path / "figures" / "inference_speed.md").read_text()
    assert "No times were measured." in text
    assert "not measured: slice-prefill, tiny, 64 tokens: no time left" in text
