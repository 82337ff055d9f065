"""The extension as the large experiments run it: packed rows, lower precision, set-ups, adapters, metrics, guard."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from longgen.config import SetupSettings, load_experiment
from longgen.data.packing.packed import PackedRows
from longgen.errors import ArtifactError, ConfigError, TrainingError
from longgen.training import preflight, stages
from longgen.training.batches import DocumentRows
from longgen.training.loading import empty_model, load_weights
from longgen.training.parallel import training_module
from longgen.training.parallel.processes import Processes, leave_processes
from longgen.training.stages import train_extension
from tests.modeling.models import tiny_hybrid
from tests.processes import ranks
from tests.training.extensions import BATCH, LENGTH, STEPS, experiment_of, extended, extension_settings, files, prepared


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="module")
def plain(folder):
    return extended(folder, "plain")


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].detach().float() - other[name].float()).abs().max()) for name in one)


def test_batches_of_packed_rows(folder):
    rows = PackedRows.open(folder / "rows")
    batch = DocumentRows(rows, first=3).batch(2, 3)
    tokens, cu_seqlens = rows.batch([5, 6, 7])
    assert batch.inputs.shape == batch.targets.shape == batch.weights.shape == (1, 3 * LENGTH)
    assert torch.equal(batch.inputs[0], torch.from_numpy(tokens.ravel()))
    assert torch.equal(batch.targets[0, :-1], batch.inputs[0, 1:])
    assert batch.packed.cu_seqlens.tolist() == cu_seqlens.tolist()
    assert batch.packed.max_seqlen == np.diff(cu_seqlens).max()
    unpredicted = (batch.weights[0] == 0).nonzero().flatten().tolist()
    assert unpredicted == [end - 1 for end in cu_seqlens[1:]], "the last token of each document, and no other"
    joined = DocumentRows(rows, first=3, separate=False).batch(2, 3)
    assert joined.packed is None
    assert torch.equal(joined.inputs, torch.from_numpy(tokens))
    assert torch.equal(joined.targets[:, :-1], joined.inputs[:, 1:])
    assert (joined.weights[:, -1] == 0).all()
    assert (joined.weights[:, :-1] == 1).all()


def test_extension_learns_and_its_model_loads_anywhere(folder, plain):
    weights, records = plain
    assert [record["step"] for record in records] == [10, 12]
    assert records[-1]["tokens"] == STEPS * BATCH * LENGTH
    assert records[1]["loss"] < records[0]["loss"] - 0.1
    model, report = AutoModelForCausalLM.from_pretrained(folder / "plain", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, weights["model.layers.1.mlp.up_proj.weight"])
    assert (folder / "plain" / "tokenizer.json").exists()
    assert not (folder / "plain-steps").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "setup",
    [
        SetupSettings(micro_batch_size=1),
        SetupSettings(micro_batch_size=2, recompute=True),
        SetupSettings(recompute=True, offload_activations=True),
        SetupSettings(offload_parameters=True),
        pytest.param(
            SetupSettings(compile=True),
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs"),
        ),
    ],
    ids=["accumulated", "recomputed", "activations-offloaded", "parameters-offloaded", "compiled"],
)
def test_the_set_up_changes_the_result_by_rounding_alone(folder, plain, setup):
    weights, records = extended(folder, "other", setup=setup)
    # the optimizer's steps are 3e-3 in every weight: what AdamW divides by its own size is rounded
    assert difference(weights, plain[0]) < 1e-4
    for record, expected in zip(records, plain[1], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-5)


def test_joined_documents_are_another_run(folder, plain):
    joined, records = extended(folder, "joined", separate_documents=False)
    assert difference(joined, plain[0]) > 1e-3
    assert all(math.isfinite(record["loss"]) for record in records)


def test_bfloat16_computes_in_it_and_keeps_float32_weights(folder, plain, monkeypatch):
    seen = []
    forward = training_module.weighted_loss

    def watched(hidden, head, *rest):
        seen.append((hidden.dtype, head.dtype))
        return forward(hidden, head, *rest)

    monkeypatch.setattr(training_module, "weighted_loss", watched)
    weights, records = extended(folder, "bfloat16", dtype="bfloat16")
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}
    assert {weight.dtype for weight in weights.values()} == {torch.float32}, "as the model that was extended"
    assert any((weight != weight.bfloat16()).any() for weight in weights.values())
    for record, expected in zip(records, plain[1], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], rel=0.02)
        assert record["loss"] != expected["loss"]


def test_a_bfloat16_model_is_saved_as_one(folder):
    model = AutoModelForCausalLM.from_pretrained(folder / "middle", dtype=torch.bfloat16)
    model.save_pretrained(folder / "half")
    experiment = experiment_of(folder, extension_settings())
    train_extension(experiment, "middle", files(folder, "half", "from-half"))
    weights = load_file(folder / "from-half" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert json.loads((folder / "from-half" / "config.json").read_text())["dtype"] == "bfloat16"


def test_shifted_groups_train_a_full_model(folder):
    setup = SetupSettings(micro_batch_size=1)
    shifted, records = extended(folder, "shifted-model", variant="shifted", setup=setup)
    full, expected = extended(folder, "full-model", variant="full", setup=setup)
    assert records[0]["loss"] != expected[0]["loss"]
    assert records[1]["loss"] < records[0]["loss"] - 0.1
    assert difference(shifted, full) > 0


def test_adapters_are_trained_and_merged(folder):
    lora = {"rank": 4, "train_embeddings": False, "train_norms": False}
    weights, records = extended(folder, "lora", lora=lora)
    before = load_file(folder / "middle" / "model.safetensors")
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], weights[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert records[1]["loss"] < records[0]["loss"]


def test_a_large_model_is_saved_in_several_files(folder, plain, monkeypatch):
    monkeypatch.setattr(stages, "FILE_BYTES", 40_000)
    experiment = experiment_of(folder, extension_settings())
    train_extension(experiment, "middle", files(folder, "middle", "pieces"))
    assert len(list((folder / "pieces").glob("*.safetensors"))) > 2
    model = AutoModelForCausalLM.from_pretrained(folder / "pieces")
    found = {name: parameter for name, parameter in model.named_parameters() if name in plain[0]}
    assert difference(found, {name: plain[0][name] for name in found}) == 0
    # and such a model is read in pieces
    again, _ = empty_model(folder / "pieces")
    assert all(parameter.is_meta for parameter in again.parameters())
    load_weights(again, folder / "pieces", torch.device("cpu"))
    tokens = torch.arange(3, 43)[None]
    assert torch.equal(again.eval()(input_ids=tokens).logits, model.eval()(input_ids=tokens).logits)


@pytest.mark.parametrize("held", ["head", "both"])
def test_head_and_embeddings_are_what_transformers_loads(held, tmp_path):
    """config.json says tied, and the file holds the head alone, or both with different values."""
    tiny_hybrid().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    if held == "head":
        del state["model.embed_tokens.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    model, dtype = empty_model(tmp_path)
    load_weights(model, tmp_path, torch.device("cpu"))
    (tmp_path / "export").mkdir()
    stages.export_model(model, tmp_path / "export", dtype, Processes())
    exported, loaded = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "export", tmp_path))
    assert exported.config.tie_word_embeddings == (held == "head")
    tokens = torch.arange(3, 43)[None]
    with torch.no_grad():
        expected = loaded(tokens).logits
        assert torch.equal(model.eval()(tokens).logits, expected)
        assert torch.equal(exported(tokens).logits, expected)


def test_layer_inputs_alone_go_to_main_memory(folder, monkeypatch):
    moved = []

    def save_on_cpu(pin_memory: bool):
        assert not pin_memory
        return torch.autograd.graph.saved_tensors_hooks(lambda t: moved.append(tuple(t.shape)) or t, lambda t: t)

    monkeypatch.setattr(training_module, "save_on_cpu", save_on_cpu)
    phase = extension_settings()["extension"]["phases"][0] | {"steps": 1, "warmup_steps": 1}
    extended(folder, "hooked", setup=SetupSettings(recompute=True, offload_activations=True), phases=[phase])
    inputs = [shape for shape in moved if shape == (1, BATCH * LENGTH, 32)]
    assert 6 <= len(inputs) <= 9, "one per layer, and the three that the norm after the last keeps"
    assert not [shape for shape in moved if shape[-1] == 64], "nothing of what a layer computes inside"


def test_numbers_of_every_step_are_written_and_a_resumed_run_repeats_none(folder, plain):
    metrics = folder / "metered-metrics" / "metrics.jsonl"
    metrics.parent.mkdir()
    # as a run that was killed after a checkpoint that is gone would leave it
    metrics.write_text('{"step": 1, "loss": 9.0}\n{"step": 2, "lo', "utf-8")
    _, records = extended(folder, "metered", metrics=True)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert np.mean([line["loss"] for line in lines[:10]]) == pytest.approx(records[0]["loss"])
    assert lines[0]["learning_rate"] == pytest.approx(1.5e-3)
    assert lines[1]["learning_rate"] == pytest.approx(3e-3)
    for line in lines:
        assert line["gradient_norm"] > 0
        assert line["peak_memory_bytes"] > 10**7
        assert line["tokens_per_second"] == pytest.approx(BATCH * LENGTH / line["step_seconds"])
        assert line["mfu"] is None, "of a CPU the peak is not known"


def test_curves_in_tensorboard(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    experiment = experiment_of(folder, extension_settings())
    where = files(folder, "middle", "curves", metrics=folder / "curves-metrics", report_to=("tensorboard",))
    train_extension(experiment, "middle", where)
    events = EventAccumulator(str(folder / "curves-metrics" / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (folder / "curves-metrics" / "metrics.jsonl").read_text().splitlines()]
    found = events.Scalars("loss")
    assert [point.step for point in found] == [line["step"] for line in lines]
    assert [point.value for point in found] == pytest.approx([line["loss"] for line in lines], rel=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(folder):
    phases = extension_settings()["extension"]["phases"]
    good, bad = phases[0] | {"steps": 10}, phases[0] | {"steps": 2, "learning_rate": 1e30, "warmup_steps": 0}
    message = (
        r"step 12: loss is (nan|inf|\d.*), gradient norm is (nan|inf) on rows 4\.\.7 of extension\.phases\[1\]: "
        r"the step was not taken; the last good checkpoint is in .*broken-steps"
    )
    with pytest.raises(TrainingError, match=message):
        extended(folder, "broken", metrics=True, phases=[good, bad])
    assert not (folder / "broken").exists()
    (kept,) = (folder / "broken-steps").iterdir()
    assert kept.name == "step-00000010"
    for file in kept.glob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(file).values())


@pytest.mark.parametrize(
    ("changes", "setup", "message"),
    [
        ({}, SetupSettings(micro_batch_size=3), r"phases\[0\]: micro_batch_size is 3: allowed are divisors of 4"),
        (
            {"phases": [{"steps": 100}]},
            None,
            r"phases\[0\].steps is 100: .*rows has 56 rows of 128 tokens, allowed is 14",
        ),
        ({"phases": [{}, {"steps": 9}]}, None, r"phases\[1\].steps is 9: .*allowed is 2 with batches of 4"),
        ({"phases": [{"length": 256}]}, None, r"length is 256: allowed with .* is one of 128"),
    ],
    ids=["micro-batch", "too-few-rows", "too-few-left", "other-length"],
)
def test_what_cannot_be_trained_is_refused(folder, changes, setup, message):
    phase = extension_settings()["extension"]["phases"][0]
    changes = {"phases": [phase | change for change in changes["phases"]]} if changes else {}
    with pytest.raises(ConfigError, match=message):
        extended(folder, "refused", setup=setup, **changes)
    assert not (folder / "refused").exists()


def test_shifted_groups_need_a_row_per_pass(folder):
    with pytest.raises(ConfigError, match="micro_batch_size is 4: allowed is 1 with shifted groups"):
        extended(folder, "refused", variant="shifted")


def test_a_set_up_that_does_not_fit_in_memory_is_refused_with_its_numbers(folder, monkeypatch):
    monkeypatch.setattr(preflight, "available_memory", lambda processes: (3_000_000, "main memory"))
    message = r"128 tokens of tiny on 1 processes are predicted to need 0\.0 GiB of main memory each"
    with pytest.raises(ConfigError, match=message):
        extended(folder, "refused")
    monkeypatch.setattr(preflight, "available_memory", lambda processes: (2**30, "main memory"))
    extended(folder, "fits")


def test_a_model_of_another_shape_is_refused(folder):
    given = extension_settings()
    given["model"]["intermediate_size"] = 96
    experiment = experiment_of(folder, given)
    with pytest.raises(ConfigError, match=r"intermediate_size of .*middle is 64: allowed is 96, as configured"):
        train_extension(experiment, "middle", files(folder, "middle", "refused"))


def test_a_damaged_model_is_named(folder):
    broken = folder / "damaged"
    AutoModelForCausalLM.from_pretrained(folder / "middle").save_pretrained(broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match=r"damaged cannot be read \(.*\): `longgen convert --overwrite`"):
        load_weights(empty_model(broken)[0], broken, torch.device("cpu"))


def extend_together(rank: int, report, config: Path) -> None:
    experiment = load_experiment(config)
    train_extension(experiment, "middle", files(config.parent, "middle", "both"), experiment.setups["two"])
    leave_processes()


@pytest.mark.slow
def test_two_processes_extend_on_packed_rows_as_one_does(folder, plain):
    given = extension_settings(dtype="float32")
    given["setups"] = {"two": {"processes": 2, "sequence_parallel": 2, "recompute": True, "micro_batch_size": 2}}
    given["setup"] = "two"
    experiment_of(folder, given)
    ranks(extend_together, 2, folder / "extension.yaml")
    result = json.loads((folder / "both.json").read_text())
    for record, expected in zip(result["records"], plain[1], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert result["settings"]["setup"]["processes"] == 2
    assert difference(load_file(folder / "both" / "model.safetensors"), plain[0]) < 1e-4
