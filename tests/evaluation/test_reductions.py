"""KV reductions in the pipeline: who is asked what at which budget, and the gates of DuoAttention from rows to file."""

import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from longgen.cli import app
from longgen.config import load_experiment
from longgen.data.synthetic.tokenizer import encode_bytes
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation import reduction
from longgen.evaluation.baselines import Gates, read_gates, save_gates
from longgen.evaluation.baselines.duo_attention import STREAMING
from longgen.evaluation.recall_gates import learn_gates, needle_row
from longgen.evaluation.reduction import evaluate_reductions
from longgen.files import write_json
from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from longgen.planner import experiment_shape
from longgen.planner.model import Model
from longgen.statistics import wilson_interval
from tests.experiments import experiment_file, tiny_settings
from tests.modeling.models import tiny_base

TEXT = encode_bytes("Nothing happened that day, and nothing was said of it. " * 40)
LEARNED = Gates(((0.5, 1.0), (0.0, 0.25)), SparsePattern(8, 1, 4))


@pytest.fixture
def experiment(tmp_path):
    settings = tiny_settings()
    settings["evaluation"] |= {"tasks": ["needle", "multikey"], "task_samples": 1}
    settings["evaluation"]["kv_reduction"] = {
        "methods": ["tova", "duo-attention"],
        "budgets_of": ["middle", "ends"],
        "tasks": ["multikey", "needle"],
        "samples_per_cell": 3,
        "lengths": [192, 256],
        "duo_attention": {"steps": 2, "length": 192, "batch_size": 2, "learning_rate": 0.1, "pattern": "sink"},
    }
    return load_experiment(experiment_file(tmp_path, settings))


def full_model():
    base = tiny_base(vocab_size=VOCABULARY_SIZE)
    config = longgen_config(base.config, make_layout(6, "all"), SparsePattern(8, 1, 4))
    model = longgen_classes("llama")[1](config)
    model.load_state_dict(base.state_dict())
    return model.eval()


def model_folder(folder, value=1.0):
    folder.mkdir()
    save_file({"weight": torch.full((2,), value)}, folder / "model.safetensors")
    return folder


# ---------------------------------------------------------------- who is asked what
def test_every_method_is_asked_every_task_at_the_budget_of_the_hybrid(experiment, monkeypatch):
    """Answers are those of a reader; tova gets the first of every batch wrong."""
    seen = []

    def chosen(name, fraction, length, asked, **fields):
        assert asked is model
        seen.append((name, fraction, length, fields))
        return SimpleNamespace(method=name, kept_bytes=int(1000 * fraction), full_bytes=1000)

    def read(model, prompts, count, method, stop, min_new_tokens):
        assert (stop, min_new_tokens) == ([258], count), "end-of-text is none of an answer's tokens, as with hybrids"
        answers = []
        for row in prompts.tolist():
            said = bytes(row).decode()
            question = said.rsplit("\n", 1)[1]
            answers.append(re.search(f"{question}(\\d+)", said)[1].encode())
        wrong = [answers[0][:-1] + b"x"] if method == "tova" else answers[:1]
        return SimpleNamespace(tokens=torch.tensor([list(answer) for answer in [*wrong, *answers[1:]]]))

    monkeypatch.setattr(reduction, "method_for_budget", chosen)
    monkeypatch.setattr(reduction, "generate", read)
    model = SimpleNamespace(device="cpu", config=None, generation_config=SimpleNamespace(eos_token_id=258))
    records = evaluate_reductions(model, TEXT, experiment, "ends", LEARNED)
    cells = [tuple(record[key] for key in ("method", "task", "length", "depth", "n")) for record in records]
    assert cells == [
        (method, task, length, depth, n)
        for method in ("tova", "duo-attention")
        for task, n in (("multikey", 1), ("needle", 3))
        for length in (192, 256)
        for depth in (0.0, 0.5, 1.0)
    ]
    shape, ends, full = experiment_shape(experiment), experiment.variant("ends"), experiment.variant("full")
    for name, fraction, length, fields in seen:
        kept, whole = (Model(shape, v.hybrid).kv_cache_bytes(length) for v in (ends, full))
        assert fraction == Fraction(kept, whole)
        assert fields == (LEARNED._asdict() if name == "duo-attention" else {})
    for record in records:
        right = record["n"] - (record["method"] == "tova")
        assert record["budget_of"] == "ends"
        assert record["exact"] == right / record["n"]
        assert (record["exact_low"], record["exact_high"]) == wilson_interval(right, record["n"])
        fraction = next(share for _, share, length, _ in seen if length == record["length"] - 5)
        assert record["kv_fraction"] == int(1000 * fraction) / 1000


def test_a_model_answers_within_the_budget_of_the_hybrid(experiment):
    gates = Gates(((0.5, 1.0),) * 6, SparsePattern(8, 1, 4))
    records = evaluate_reductions(full_model(), TEXT, experiment, "middle", gates)
    assert len(records) == 24
    hybrid = experiment.variant("middle").hybrid
    for record in records:
        kept = Model(experiment_shape(experiment), hybrid).kv_cache_bytes(record["length"] - 5)
        whole = Model(experiment_shape(experiment), Hybrid(make_layout(6, "all"), hybrid.pattern)).kv_cache_bytes(
            record["length"] - 5
        )
        assert 0.9 * kept / whole < record["kv_fraction"] <= kept / whole


def test_duo_attention_without_gates_is_refused(experiment):
    with pytest.raises(ConfigError, match="duo-attention: it needs gates, which `longgen gates` learns"):
        evaluate_reductions(None, TEXT, experiment, "middle", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["full", "--kv-budget-of", "none"], "--kv-budget-of is 'none': allowed is middle, ends"),
        (["ends", "--kv-budget-of", "ends"], "--variant is 'ends': allowed is full with --kv-budget-of"),
        (["full", "--gates", "x.json"], "--gates is PosixPath('x.json'): allowed is given with --kv-budget-of alone"),
    ],
)
def test_impossible_options_are_refused(experiment, tmp_path, words, message):
    files = ["--model", "none", "--corpus", "none", "--output", str(tmp_path / "out")]
    outcome = CliRunner().invoke(app, ["evaluate", str(tmp_path / "tiny.yaml"), "--variant", *words, *files])
    assert message in str(outcome.exception)


# ---------------------------------------------------------------- gates
def test_a_row_hides_needles_and_marks_what_predicts_their_answers():
    row, asked = needle_row(np.random.default_rng(5), TEXT, 512)
    assert (row.shape, row.dtype, asked.shape, asked.dtype) == ((512,), np.int64, (512,), bool)
    said = bytes(row.tolist()).decode()
    found = re.findall(r"The pass key of (\w+) is (\d{5})\.", said)
    keys = dict(found[: len(found) // 2])
    assert len(keys) == len(found) // 2 > 1, "several keys, each stated and asked for"
    assert dict(found[len(found) // 2 :]) == keys
    following = np.flatnonzero(asked) + 1
    assert bytes(row[following].tolist()).decode() == "".join(value for _, value in found[len(found) // 2 :])


def test_gates_are_learned_by_the_settings_and_leave_the_model_alone(experiment, monkeypatch):
    model = full_model()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learned = learn_gates(model, TEXT, experiment)
    assert learned.pattern == experiment.patterns["sink"]
    assert np.array(learned.gates).shape == (6, 2)
    assert 0 < np.array(learned.gates).max() < 1, "two steps of 0.1 down from 1"
    assert learned == learn_gates(model, TEXT, experiment), "the same every time"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    given = {}
    monkeypatch.setattr(
        "longgen.evaluation.recall_gates.optimise_gates",
        lambda model, batches, pattern, rate: given.update(batches=list(batches), pattern=pattern, rate=rate),
    )
    object.__setattr__(experiment.evaluation.kv_reduction.duo_attention, "pattern", None)
    learn_gates(model, TEXT, experiment)
    assert (given["pattern"], given["rate"]) == (STREAMING, 0.1)
    assert [tokens.shape for tokens, _ in given["batches"]] == [(2, 192)] * 2
    assert len({tokens.numpy().tobytes() for batch, _ in given["batches"] for tokens in batch}) == 4


def test_gates_come_back_from_their_file_for_the_same_weights_alone(tmp_path):
    path, model = tmp_path / "gates.json", model_folder(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"gates\.json is missing: `longgen gates CONFIG --model"):
        read_gates(path, model)
    save_gates(path, LEARNED, model, {"seed": 0})
    assert read_gates(path, model) == LEARNED
    with pytest.raises(
        ArtifactError, match=r"gates\.json has gates of the weights \w+: .*other has \w+, `longgen gates"
    ):
        read_gates(path, model_folder(tmp_path / "other", 2.0))
    for damaged in ({"gates": []}, [], {"model": "x", "pattern": {"block_size": 0}, "gates": []}):
        write_json(path, damaged)
        with pytest.raises(ArtifactError, match=r"gates\.json holds no gates \("):
            read_gates(path, model)
