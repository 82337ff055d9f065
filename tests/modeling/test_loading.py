"""A model is loaded with all of its weights or not at all, wherever a result is made of it."""

import ast
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import longgen
from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.runs.model import load_model
from longgen.modeling.conversion.source import FolderSource, check_generation_config
from longgen.modeling.loading import load_complete
from longgen.pattern import SparsePattern
from longgen.probing.model import load_hybrid
from longgen.training.loading import empty_model
from tests.modeling.models import tiny_base, tiny_hybrid

LOADERS = {
    "evaluation": lambda folder: load_model(folder, torch.float32, "cpu")[0],
    "probe": lambda folder: load_hybrid(folder, None, torch.float32, "cpu")[0],
    "training": empty_model,
}
MODELS = {
    "hybrid": lambda: tiny_hybrid("llama", "middle:1/3", SparsePattern(8, 1, 2)),
    "tied": lambda: tiny_base("qwen3", tie_word_embeddings=True),
}


@pytest.fixture(scope="module", params=MODELS)
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / request.param
    MODELS[request.param]().save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


def changed(whole, folder, change):
    """A copy of a model whose tensors ``change`` was called with."""
    shutil.copytree(whole, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without(*names):
    return lambda tensors: [tensors.pop(name, None) for name in names]


FAULTS = {
    "a projection": (
        without("model.layers.3.self_attn.q_proj.weight"),
        r"misses model\.layers\.3\.self_attn\.q_proj\.weight",
    ),
    "a norm": (without("model.norm.weight"), r"misses model\.norm\.weight"),
    "the head, and what it may be tied to": (
        without("lm_head.weight", "model.embed_tokens.weight"),
        r"misses lm_head\.weight, model\.embed_tokens\.weight",
    ),
    "one too many": (lambda tensors: tensors.update(extra=torch.ones(2)), "has unexpected extra"),
    "another shape": (
        lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}),
        r"has wrong shapes: model\.norm\.weight \[7\] instead of \[64\]",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_not_those_of_the_model_are_refused_everywhere(whole, tmp_path, fault):
    change, message = FAULTS[fault]
    folder = changed(whole, tmp_path / "broken", change)
    for load in LOADERS.values():
        with pytest.raises(
            ArtifactError, match=f"broken {message}: allowed is what its config.json describes; .*convert"
        ):
            load(folder)


def test_layers_without_weights_are_refused_before_they_are_built(tmp_path):
    tiny_base().save_pretrained(tmp_path)
    save_byte_tokenizer(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 10**7, "layer_types": None}))
    for name in ("evaluation", "training"):
        with pytest.raises(ConfigError, match=r"num_hidden_layers is 10000000: allowed is up to 6, as many as"):
            LOADERS[name](tmp_path)


def test_an_untied_head_is_missing_and_a_tied_one_is_not(whole, tmp_path):
    folder = changed(whole, tmp_path / "headless", without("lm_head.weight"))
    for load in LOADERS.values():
        if whole.name == "tied":
            load(folder)
        else:
            with pytest.raises(ArtifactError, match=r"headless misses lm_head\.weight"):
                load(folder)


@pytest.mark.parametrize("whole", ["tied"], indirect=True)
def test_of_two_tied_matrices_either_one_will_do(whole, tmp_path):
    def rename(tensors):
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    folder = changed(whole, tmp_path / "renamed", rename)
    for load in LOADERS.values():
        load(folder)
    expected = load_complete(whole, "").lm_head.weight
    assert torch.equal(load_complete(folder, "").model.embed_tokens.weight, expected)


def test_frequencies_that_old_checkpoints_have_are_no_fault(whole, tmp_path):
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    folder = changed(whole, tmp_path / "old", lambda tensors: tensors.update(old))
    for load in LOADERS.values():
        load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{bad", "generation_config.json is not readable as JSON"),
        ("[2]", "generation_config.json is no mapping"),
        ('{"eos_token_id": "</s>"}', "generation_config.json: eos_token_id is '</s>': allowed is a token id"),
        ('{"eos_token_id": [2, -1]}', r"eos_token_id is \[2, -1\]: allowed is a token id from 0 up, a list of them"),
        ('{"eos_token_id": true}', "eos_token_id is True"),
    ],
)
def test_damaged_generation_defaults_are_refused(whole, tmp_path, text, message):
    """transformers goes by config.json instead, without a word: answers then end elsewhere."""
    folder = shutil.copytree(whole, tmp_path / "model")
    (folder / "generation_config.json").write_text(text)
    for name in ("evaluation", "probe"):
        with pytest.raises(ArtifactError, match=message):
            LOADERS[name](folder)


def test_generation_defaults_as_they_are_on_the_hub_are_welcome(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "model")
    for ends in (None, 7, [7, 8]):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends, "do_sample": True}))
        assert LOADERS["evaluation"](folder).generation_config.eos_token_id == ends
    (folder / "generation_config.json").unlink()
    check_generation_config(FolderSource(folder))
    assert LOADERS["evaluation"](folder).generation_config.eos_token_id == 2


def test_nothing_else_loads_models():
    root = Path(longgen.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if ".from_pretrained(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                if node.func.attr == "from_pretrained" and owner not in (
                    "AutoConfig",
                    "AutoTokenizer",
                    "GenerationConfig",
                    "type(config)",
                ):
                    found.add(path.relative_to(root).as_posix())
    assert found == {"modeling/loading.py"}, "the others get their models from load_complete"
