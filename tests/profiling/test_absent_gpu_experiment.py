"""Answers, perplexity, gates, KV reductions and profile of an experiment on a GPU that is not there: all is on it."""

import json
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from longgen.cli import app
from longgen.config import load_experiment
from longgen.data.synthetic.corpus import Corpus
from longgen.data.synthetic.tokenizer import encode_bytes, save_byte_tokenizer
from longgen.errors import ConfigError
from longgen.evaluation.baselines.gates_file import read_gates
from longgen.evaluation.likelihood import token_nll
from longgen.evaluation.runs.model import attention_kernels, greedy
from longgen.evaluation.runs.predict import PromptBatch
from longgen.evaluation.runs.reduced import KvBudget, greedy_with_reduced_cache
from longgen.modeling import decoder, longgen_config
from longgen.profiling.experiment import profile_experiment
from longgen.training.base import base_config
from longgen.training.learn_gates import learn_gates
from tests.experiments import experiment_file, tiny_settings
from tests.profiling.absent_gpu import NAME, absent_gpu

TEXT = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))


METHODS = ("sink-window", "snapkv", "pyramidkv", "tova")


@pytest.fixture
def experiment(tmp_path):
    settings = tiny_settings()
    for pattern in settings["patterns"].values():
        pattern["block_size"] = 16  # what the kernels serve
    on_gpu = {"device": "cuda", "dtype": "bfloat16"}
    reduction = {"methods": [*METHODS, "duo-attention"], "budgets_of": ["middle"]}
    reduction |= {"duo_attention": {"steps": 2, "length": 192, "pattern": "sink"}}
    settings["benchmarks"] |= on_gpu | {"kv_reduction": reduction}
    settings["profiling"] = on_gpu | {"lengths": [256], "training_lengths": [64], "repeats": 3, "decode_tokens": 2}
    return load_experiment(experiment_file(tmp_path, settings))


@pytest.fixture
def models(experiment):
    """A full model and a hybrid; reading files into tensors that are not there is nothing that a real GPU does."""
    made = {}
    for name in ("full", "middle"):
        variant = experiment.variant(name)
        config = longgen_config(base_config(experiment.model, 256), variant.layout, variant.pattern)
        made[name] = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    return made


def prompts(rows: int = 2, length: int = 251) -> PromptBatch:
    tokens = torch.zeros(rows, length, dtype=torch.int64, device="cuda")
    return PromptBatch(tokens, torch.ones_like(tokens), 5, 5)


def test_a_hybrid_answers_and_is_measured_by_the_kernels(models, monkeypatch):
    # every condition holds there, that positions begin anew in every token included
    for check in ("packed_documents", "_check_positions"):
        monkeypatch.setattr(decoder, check, lambda *given: None)
    with absent_gpu() as gpu:
        model = models["middle"].to("cuda")
        assert greedy(model)(prompts()).tokens.shape[0] == 2  # what ends there, ends at once
        assert token_nll(model, torch.zeros(1, 257, dtype=torch.int64, device="cuda")).shape == (1, 256)
        assert attention_kernels(model)["sparse"] == "triton"
    assert Counter(gpu.launches).keys() >= {"forward_kernel"}


def test_gates_are_learned_and_the_cache_is_reduced_there(experiment, models, tmp_path, monkeypatch):
    save_byte_tokenizer(tmp_path)
    monkeypatch.setattr("longgen.training.learn_gates.weights_fingerprint", lambda folder: "weights")
    monkeypatch.setattr("longgen.evaluation.baselines.gates_file.weights_fingerprint", lambda folder: "weights")
    monkeypatch.setattr("longgen.training.learn_gates.load_corpus", lambda folder: Corpus(TEXT, TEXT, "text"))
    loaded = (models["full"], AutoTokenizer.from_pretrained(tmp_path))
    monkeypatch.setattr("longgen.training.learn_gates.load_model", lambda *given: (loaded[0].to("cuda"), loaded[1]))
    path = tmp_path / "gates.json"
    with absent_gpu():
        learn_gates(experiment, tmp_path, path, tmp_path)
        gates = read_gates(path, tmp_path)
        assert len(gates.gates) == 6
        assert json.loads(path.read_text())["provenance"]["device"]["name"] == NAME
        for method in (*METHODS, "duo-attention"):
            answer = greedy_with_reduced_cache(
                models["full"], method, KvBudget.parse("0.5"), gates if method == "duo-attention" else None
            )
            given = answer(prompts())
            assert given.tokens.shape[0] == 2
            assert 0.4 < given.kv_fraction <= 0.5


@pytest.mark.slow
def test_variants_are_profiled_in_the_dtype_that_is_asked_for(experiment):
    with absent_gpu() as gpu:
        speed, memory, attention = profile_experiment(experiment, ["full", "middle"])
    assert attention["sparse"] == "triton"
    assert {record.stage for record in speed} == {"prefill", "decode", "training"}
    assert all(record.kv_bytes == record.kv_bytes_planned for record in memory)
    full = next(record for record in memory if record.variant == "full")
    assert full.kv_bytes == 6 * 2 * 2 * 8 * 256 * 2, "layers, keys and values, heads, head_dim, tokens, bytes"
    assert gpu.memory.live == 0


def test_without_a_gpu_one_is_refused_by_its_key(experiment, tmp_path):
    with pytest.raises(ConfigError, match=r"benchmarks\.device is 'cuda': allowed is cpu, as PyTorch sees no GPU"):
        learn_gates(experiment, tmp_path, tmp_path / "gates.json", tmp_path)
    with pytest.raises(ConfigError, match=r"profiling\.device is 'cuda': allowed is cpu, as PyTorch sees no GPU"):
        profile_experiment(experiment, ["full"])
    words = ["--output", str(tmp_path), "--prompts", str(tmp_path), "--device", "cuda"]
    with pytest.raises(ConfigError, match="--device is 'cuda': allowed is cpu, as PyTorch sees no GPU"):
        CliRunner().invoke(app, ["benchmark", "predict", str(tmp_path), *words], catch_exceptions=False)
