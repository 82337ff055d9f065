"""An experiment's evaluation, gates, KV reductions and profile on a GPU that is not there: everything is on it."""

from collections import Counter

import pytest
from transformers import AutoModelForCausalLM

from longgen.config import load_experiment
from longgen.data.synthetic.tokenizer import encode_bytes
from longgen.errors import ConfigError
from longgen.evaluation import run
from longgen.evaluation.baselines.gates_file import read_gates
from longgen.modeling import decoder, longgen_config
from longgen.modeling.base import base_config
from longgen.profiling.experiment import profile_experiment
from longgen.results import load_result
from tests.experiments import experiment_file, tiny_settings
from tests.profiling.absent_gpu import NAME, absent_gpu

TEXT = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))


@pytest.fixture
def experiment(tmp_path):
    settings = tiny_settings()
    for pattern in settings["patterns"].values():
        pattern["block_size"] = 16  # what the kernels serve
    on_gpu = {"device": "cuda", "dtype": "bfloat16"}
    reduction = {"methods": ["sink-window", "snapkv", "pyramidkv", "tova", "duo-attention"], "budgets_of": ["middle"]}
    reduction |= {"samples_per_cell": 1, "duo_attention": {"steps": 2, "length": 192, "pattern": "sink"}}
    settings["evaluation"] |= on_gpu | {"lengths": [256], "depths": [0.5], "kv_reduction": reduction}
    settings["profiling"] = on_gpu | {"lengths": [256], "training_lengths": [64], "repeats": 3, "decode_tokens": 2}
    return load_experiment(experiment_file(tmp_path, settings))


@pytest.fixture
def opened(experiment, monkeypatch, tmp_path):
    """Folder of a full model and of one hybrid; the corpus is made up, and its text is what it is."""
    corpus = run.Corpus(TEXT, TEXT, "text")
    monkeypatch.setattr(run, "load_corpus", lambda folder: corpus)
    monkeypatch.setattr(run, "weights_fingerprint", lambda folder: "weights")
    models = {}
    for name in ("full", "middle"):
        variant = experiment.variant(name)
        config = longgen_config(base_config(experiment.model, 256), variant.layout, variant.pattern)
        models[name] = AutoModelForCausalLM.from_config(config)
        models[name].save_pretrained(tmp_path / name)
    # reading a file into a tensor that is not there is nothing that a real GPU does
    monkeypatch.setattr(run, "load_complete", lambda folder, otherwise, dtype: models[folder.name].to(dtype))
    return tmp_path


def result(path):
    found = load_result(path)
    assert found.provenance["device"]["name"] == NAME
    return found


def test_a_hybrid_is_evaluated_by_the_kernels(experiment, opened, monkeypatch):
    # every condition holds there, that positions begin anew in every token included
    for check in ("packed_documents", "_check_positions"):
        monkeypatch.setattr(decoder, check, lambda *given: None)
    with absent_gpu() as gpu:
        run.evaluate_variant(experiment, "middle", opened / "middle", opened, opened)
    assert result(opened / "retrieval.json").provenance["attention"]["sparse"] == "triton"
    assert len(result(opened / "perplexity.json").records) == 16
    assert Counter(gpu.launches).keys() >= {"forward_kernel"}


def test_gates_are_learned_and_the_cache_is_reduced_there(experiment, opened):
    with absent_gpu():
        run.learn_model_gates(experiment, opened / "full", opened, opened / "gates.json")
        gates = read_gates(opened / "gates.json", opened / "full")
        assert len(gates.gates) == 6
        run.evaluate_kv_reductions(experiment, "middle", opened / "full", opened, opened / "gates.json", opened)
    records = result(opened / "middle.json").records
    assert {record["method"] for record in records} == set(experiment.evaluation.kv_reduction.methods)
    assert all(0 < record["kv_fraction"] <= (2 + 4 * 80 / 192) / 6 for record in records)


def test_variants_are_profiled_in_the_dtype_that_is_asked_for(experiment):
    with absent_gpu() as gpu:
        speed, memory, attention = profile_experiment(experiment, ["full", "middle"])
    assert attention["sparse"] == "triton"
    assert {record["stage"] for record in speed} == {"prefill", "decode", "training"}
    assert all(record["kv_bytes"] == record["kv_bytes_planned"] for record in memory)
    full = next(record for record in memory if record["variant"] == "full")
    assert full["kv_bytes"] == 6 * 2 * 2 * 8 * 256 * 2, "layers, keys and values, heads, head_dim, tokens, bytes"
    assert gpu.memory.live == 0


def test_without_a_gpu_one_is_refused_by_its_key(experiment, opened):
    with pytest.raises(ConfigError, match=r"evaluation\.device is 'cuda': allowed is cpu, as PyTorch sees no GPU"):
        run.evaluate_variant(experiment, "full", opened / "full", opened, opened)
    with pytest.raises(ConfigError, match=r"profiling\.device is 'cuda': allowed is cpu, as PyTorch sees no GPU"):
        profile_experiment(experiment, ["full"])
