"""Conversion on disk: weights unchanged, config and card new, bad input refused, nothing half-written."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from longgen.data.tokenizer import save_byte_tokenizer
from longgen.errors import ArtifactError, ConfigError
from longgen.modeling import convert_checkpoint
from longgen.pattern import SparsePattern
from tests.modeling.models import FAMILIES, tiny_base, tokens

PATTERN = SparsePattern(8, 1, 2, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_stay_and_config_changes(family, tmp_path):
    base = tiny_base(family)
    base.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    save_byte_tokenizer(tmp_path / "base")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1, "sharded"
    convert_checkpoint(tmp_path / "base", tmp_path / "new", "middle:1/3", PATTERN, rope_theta=5e5, max_length=4096)

    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["model_type"] == f"longgen_{family}"
    assert config["longgen"]["layout"] == ["sparse", "sparse", "full", "full", "sparse", "sparse"]
    assert config["longgen"]["pattern"] == {"block_size": 8, "sink_blocks": 1, "local_blocks": 2, "stride": 4}
    assert config["rope_parameters"]["rope_theta"] == 5e5
    assert config["max_position_embeddings"] == 4096
    assert AutoTokenizer.from_pretrained(tmp_path / "new")("ab")["input_ids"] == [97, 98]
    assert "`ssFFss`" in (tmp_path / "new" / "README.md").read_text()
    for shard in (tmp_path / "base").glob("*.safetensors"):
        old, new = load_file(shard), load_file(tmp_path / "new" / shard.name)
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)

    converted = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    expected = dict(base.named_parameters())
    assert all(torch.equal(value, expected[name]) for name, value in converted.named_parameters())


def test_all_full_without_changes_computes_what_the_base_computes(tmp_path):
    base = tiny_base()
    base.save_pretrained(tmp_path / "base")
    convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERN)
    with torch.no_grad():
        converted = AutoModelForCausalLM.from_pretrained(tmp_path / "new")(tokens(70)).logits
        assert torch.equal(converted, base(tokens(70)).logits)


def test_refusals_name_the_folder_and_write_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"empty has no config\.json"):
        convert_checkpoint(tmp_path / "empty", tmp_path / "new", "all", PATTERN)
    tiny_base().save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"full_layers is '7': allowed is a count 0\.\.6"):
        convert_checkpoint(tmp_path / "base", tmp_path / "new", "middle:7", PATTERN)
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"no \*\.safetensors"):
        convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "empty"]


def test_existing_destination_is_kept_unless_told(tmp_path):
    tiny_base().save_pretrained(tmp_path / "base")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mine.txt").write_text("precious")
    with pytest.raises(ArtifactError, match="exists: give --overwrite"):
        convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERN)
    assert (tmp_path / "new" / "mine.txt").read_text() == "precious"
    convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERN, overwrite=True)
    assert (tmp_path / "new" / "config.json").is_file()
