"""Lengths beyond the one that was trained at: allowed, measured, and no different for what the model's config says."""

import copy

import numpy as np
import pytest

from longgen.config import DataSettings, load_experiment
from longgen.data.sources import SourceSettings
from longgen.data.synthetic.corpus import build_corpus
from longgen.data.synthetic.tokenizer import encode_bytes
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.errors import ConfigError
from longgen.evaluation.perplexity import evaluate_perplexity
from longgen.evaluation.retrieval import evaluate_retrieval
from longgen.evaluation.run import evaluate_variant
from longgen.evaluation.tasks import TASKS
from longgen.layout import make_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from tests.experiments import experiment_file, tiny_settings
from tests.modeling.models import tiny_base

TEXT = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))


@pytest.fixture
def experiment(tmp_path):
    settings = tiny_settings()
    settings["evaluation"] |= {"lengths": [256, 512], "tasks": list(TASKS), "task_samples": 1, "depths": [0.5]}
    return load_experiment(experiment_file(tmp_path, settings))


def hybrid(max_length: int):
    base = tiny_base(vocab_size=VOCABULARY_SIZE)
    config = longgen_config(base.config, make_layout(6, "1/3", "middle"), SparsePattern(8, 1, 4))
    config.max_position_embeddings = max_length
    model = longgen_classes("llama")[1](copy.deepcopy(config))
    model.load_state_dict(base.state_dict())
    return model.eval()


def test_a_hybrid_is_evaluated_at_twice_its_length(experiment):
    assert max(experiment.evaluation.lengths) == 2 * experiment.extension.max_length
    found = []
    for max_length in (256, 4096):
        model = hybrid(max_length)
        bins = evaluate_perplexity(model, TEXT, experiment.evaluation, 0, "perplexity")
        answers = evaluate_retrieval(model, TEXT, experiment.evaluation, 0, "retrieval")
        found.append((bins, answers))
    bins, answers = found[0]
    assert [record["position_end"] for record in bins][7::8] == [256, 512], "a bin ends where training did"
    assert all(np.isfinite(record["nll"]) for record in bins)
    assert {(record["task"], record["length"]) for record in answers} == {(t, n) for t in TASKS for n in (256, 512)}
    assert found[0] == found[1]


def test_a_length_beyond_the_held_out_text_is_refused(experiment, tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text("x" * 20)
    build_corpus(DataSettings([SourceSettings("text", str(tmp_path))], heldout_fraction=0.5), tmp_path / "corpus")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"evaluation\.lengths is 512: allowed is less than the \d+ tokens"):
        evaluate_variant(experiment, "full", tmp_path / "model", tmp_path / "corpus", tmp_path / "out")
