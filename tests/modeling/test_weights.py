"""Weights on their way: the safetensors format, casts, completeness, and how much memory it takes."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from longgen.errors import ArtifactError
from longgen.modeling import convert_checkpoint
from longgen.modeling.conversion import safetensors_file
from longgen.modeling.conversion.safetensors_file import NewTensor, read_header, read_pieces, write_safetensors
from longgen.pattern import SparsePattern
from tests.modeling.models import tiny_base, tokens

PATTERN = SparsePattern(8, 1, 2, 4)
MIXED = {
    "b.weight": torch.randn(7, 5),
    "a.weight": torch.randn(3, 11).bfloat16(),
    "count": torch.tensor([3, 4, 5]),
    "mask": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "quarter": torch.randn(6).to(torch.float8_e4m3fn),
}


def convert(tmp_path, **options):
    return convert_checkpoint(tmp_path / "base", tmp_path / "new", "middle:1/3", PATTERN, **options)


def tensors(folder) -> dict[str, torch.Tensor]:
    return {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}


# ---------------------------------------------------------------- the format
@pytest.mark.parametrize("piece", [8, 1 << 24])
def test_files_are_what_the_safetensors_library_reads_and_writes(piece, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_file, "PIECE_BYTES", piece)
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    save_file(MIXED, theirs, metadata={"format": "pt"})
    header = read_header(theirs)
    new = [
        NewTensor(name, info.dtype, info.shape, lambda name=name: read_pieces(theirs, header, name))
        for name, info in header.tensors.items()
    ]
    write_safetensors(ours, new)
    found = load_file(ours)
    assert found.keys() == MIXED.keys()
    for name, value in MIXED.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8)), name
    assert ours.stat().st_size == theirs.stat().st_size
    header = read_header(ours)
    assert header.data_start % 8 == 0
    assert all(info.start % info.dtype.itemsize == 0 for info in header.tensors.values()), "aligned"


@pytest.mark.parametrize("length", [0, 5, 8, 30, -1])
def test_a_truncated_file_is_named(length, tmp_path):
    path = tmp_path / "part.safetensors"
    save_file(MIXED, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArtifactError, match=r"part\.safetensors (is truncated|has \d+ bytes: its header says)"):
        read_header(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"F8_E4M3"', b'"F8_XXXX"', "quarter has dtype 'F8_XXXX': allowed are F64"),
        (b'"shape":[7,5]', b'"shape":[7,6]', r"b\.weight is at bytes"),
        (b'{"', b"}}", "no readable safetensors header"),
        (b'"dtype"', b'"dtypo"', "no readable safetensors header"),
    ],
)
def test_a_damaged_header_is_refused(old, new, message, tmp_path):
    path = tmp_path / "part.safetensors"
    save_file(MIXED, path)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(ArtifactError, match=message):
        read_header(path)


# ---------------------------------------------------------------- casts
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("source", [torch.float32, torch.bfloat16])
def test_cast_equals_a_cast_in_memory(dtype, source, tmp_path):
    base = tiny_base().to(source)
    base.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    convert(tmp_path, dtype=dtype)
    found, target = tensors(tmp_path / "new"), getattr(torch, dtype)
    assert found.keys() == base.state_dict().keys()
    for name, value in base.state_dict().items():
        assert found[name].dtype == target
        assert torch.equal(found[name], value.to(target)), name
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in found.values())
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == dtype


def test_a_value_that_does_not_fit_is_refused_and_infinities_stay_where_allowed(tmp_path):
    base = tiny_base()
    base.model.norm.weight.data[0] = float("inf")
    base.save_pretrained(tmp_path / "base")
    convert(tmp_path, dtype="float16", check_finite=False)
    assert tensors(tmp_path / "new")["model.norm.weight"][0] == float("inf")
    base.model.norm.weight.data[1] = 70000.0
    base.save_pretrained(tmp_path / "base")
    with pytest.raises(ArtifactError, match=r"model\.norm\.weight has a value beyond what torch\.float16 can hold"):
        convert(tmp_path, dtype="float16", overwrite=True, check_finite=False)
    assert tensors(tmp_path / "new")["model.norm.weight"][1] == 1, "the old result stays"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "new"]


def test_shards_that_need_no_cast_are_copied_byte_by_byte(tmp_path):
    tiny_base().bfloat16().save_pretrained(tmp_path / "base", max_shard_size="50KB")
    convert(tmp_path, dtype="bfloat16")
    for shard in (tmp_path / "base").glob("*.safetensors"):
        assert shard.read_bytes() == (tmp_path / "new" / shard.name).read_bytes()


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_unless_told(value, dtype, tmp_path):
    base = tiny_base()
    base.model.layers[3].mlp.up_proj.weight.data[5, 7] = value
    base.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    with pytest.raises(
        ArtifactError, match=rf"base: model\.layers\.3\.mlp\.up_proj\.weight has a value {value}: allowed"
    ):
        convert(tmp_path, dtype=dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    convert(tmp_path, dtype=dtype, check_finite=False)


# ---------------------------------------------------------------- completeness
def change(tmp_path, file, edit) -> None:
    path = tmp_path / "base" / file
    state = load_file(path)
    edit(state)
    save_file(state, path, metadata={"format": "pt"})


def rename(old, new):
    return lambda state: state.update({new: state.pop(old)})


DOWN, LAST = "model.layers.5.mlp.down_proj.weight", "model.norm.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop(DOWN), rf"base misses {DOWN}: allowed is what its config\.json describes"),
        (rename(DOWN, "score.weight"), rf"base misses {DOWN}"),
        (lambda state: state.update(extra=torch.ones(2)), r"base has unexpected extra: allowed"),
        (
            lambda state: state.update({LAST: torch.ones(64).to(torch.int8)}),
            rf"base has {LAST} as torch\.int8: allowed are",
        ),
        (lambda state: state.update({DOWN: state[DOWN].to(torch.float8_e4m3fn)}), rf"{DOWN} as torch\.float8_e4m3fn"),
        (lambda state: state.update({LAST: torch.ones(65)}), rf"wrong shapes: {LAST} \[65\] instead of \[64\]"),
        (
            lambda state: [state.pop(name) for name in list(state) if "q_proj" in name],
            r"misses model\.layers\.0\.self_attn\.q_proj\.weight, model\.layers\.1.*, model\.layers\.2.* and 3 more",
        ),
    ],
)
def test_tensors_must_be_those_of_the_model(edit, message, tmp_path):
    tiny_base().save_pretrained(tmp_path / "base")
    change(tmp_path, "model.safetensors", edit)
    with pytest.raises(ArtifactError, match=message):
        convert(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.fixture
def sharded(tmp_path):
    tiny_base().save_pretrained(tmp_path / "base", max_shard_size="50KB")
    return sorted((tmp_path / "base").glob("*.safetensors"))


def test_a_missing_or_truncated_shard_is_named(sharded, tmp_path):
    content = sharded[2].read_bytes()
    sharded[2].write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match=rf"{sharded[2].name} has {len(content) - 1} bytes: its header says"):
        convert(tmp_path)
    sharded[2].unlink()
    with pytest.raises(ArtifactError, match=rf"index\.json names {sharded[2].name}, which is missing"):
        convert(tmp_path)
    assert not (tmp_path / "new").exists()


def test_every_tensor_must_be_where_the_index_says(sharded, tmp_path):
    name = next(iter(load_file(sharded[1])))
    change(tmp_path, sharded[0].name, lambda state: state.update({name: load_file(sharded[1])[name]}))
    with pytest.raises(ArtifactError, match=rf"{name} is in {sharded[0].name} and in {sharded[1].name}"):
        convert(tmp_path)
    change(tmp_path, sharded[1].name, lambda state: state.pop(name))
    with pytest.raises(ArtifactError, match=rf"{sharded[1].name} has no {name}: model\.safetensors\.index\.json says"):
        convert(tmp_path)


@pytest.mark.parametrize("place", ["../outside.safetensors", "", None])
def test_an_index_cannot_lead_out_of_the_folder(place, sharded, tmp_path):
    index = tmp_path / "base" / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"] = {LAST: place} if place else {}
    index.write_text(json.dumps(values))
    save_file({LAST: torch.ones(64)}, tmp_path / "outside.safetensors")
    with pytest.raises(ArtifactError, match=r"index\.json has no weight_map of tensors to files beside it"):
        convert(tmp_path)


def test_what_hugging_face_allows_is_allowed(tmp_path):
    base = tiny_base(tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    buffer = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change(tmp_path, "model.safetensors", lambda state: state.update({buffer: torch.ones(8)}))
    assert "lm_head.weight" not in tensors(tmp_path / "base")
    convert(tmp_path, dtype="bfloat16")
    assert tensors(tmp_path / "new")[buffer].dtype == torch.float32, "not a weight"


HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize(
    ("edit", "tied"),
    [
        (lambda state: None, True),
        (rename(EMBEDDINGS, HEAD), True),
        (lambda state: state.update({HEAD: state[EMBEDDINGS].clone()}), True),
        (lambda state: state.update({HEAD: state[EMBEDDINGS] + 0.25}), False),
    ],
    ids=["embeddings", "head", "both equal", "both different"],
)
def test_head_and_embeddings_are_tied_where_transformers_ties_them(edit, tied, dtype, tmp_path):
    tiny_base(tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    change(tmp_path, "model.safetensors", edit)
    convert_checkpoint(tmp_path / "base", tmp_path / "new", "all", PATTERN, dtype=dtype)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["tie_word_embeddings"] == tied
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype or "auto")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert (ours.lm_head.weight is ours.model.embed_tokens.weight) == tied
    with torch.no_grad():
        assert torch.equal(ours(tokens(20)).logits, theirs(tokens(20)).logits)


def test_files_that_transformers_would_not_load_are_left_out(sharded, tmp_path):
    save_file({LAST: torch.ones(64)}, tmp_path / "base" / "consolidated.safetensors")
    convert(tmp_path)
    assert not (tmp_path / "new" / "consolidated.safetensors").exists()
    (tmp_path / "base" / "model.safetensors.index.json").unlink()
    with pytest.raises(ArtifactError, match=r"would load \(there is consolidated\.safetensors, .* and \d+ more\)"):
        convert(tmp_path, overwrite=True)


def test_too_little_space_is_told_with_both_numbers(tmp_path, monkeypatch):
    base = tiny_base()
    base.save_pretrained(tmp_path / "base")
    weights = sum(value.nbytes for value in base.state_dict().values())

    def disk(free):
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))

    disk(weights // 2 - 1)
    with pytest.raises(ArtifactError, match=r"has \d+\.\d KiB free: the conversion needs \d+\.\d KiB"):
        convert(tmp_path, dtype="bfloat16")
    assert not (tmp_path / "new").exists()
    disk(weights // 2 + 4096)  # a cast to half the size needs half the space
    convert(tmp_path, dtype="bfloat16")


# ---------------------------------------------------------------- pickles
@pytest.mark.parametrize("file", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickles_are_refused_unread(file, tmp_path):
    tiny_base().config.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / file).write_bytes(b"not even a pickle")
    with pytest.raises(ArtifactError, match=rf"base has no \*\.safetensors, only {file}: a pickle can carry code and"):
        convert(tmp_path)
    assert not (tmp_path / "new").exists()


def test_safetensors_win_over_pickles(tmp_path):
    tiny_base().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "pytorch_model.bin").write_bytes(b"not even a pickle")
    convert(tmp_path)
    assert not list((tmp_path / "new").glob("*.bin*"))


# ---------------------------------------------------------------- memory
MEMORY = """
import json, sys
from pathlib import Path
from longgen.modeling import convert_checkpoint
from longgen.pattern import SparsePattern

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024

folder, requests = Path(sys.argv[1]), json.loads(sys.argv[2])
for options in requests:  # what is loaded but once
    convert_checkpoint(folder / "tiny", folder / "new", "middle:1/3", SparsePattern(), overwrite=True, **options)
before = status("VmRSS")
for options in requests:
    convert_checkpoint(folder / "base", folder / "new", "middle:1/3", SparsePattern(), overwrite=True, **options)
    print(status("VmHWM") - before)
"""
SHARDS, SHARD_BYTES = 8, 48 << 20


@pytest.fixture
def large(tmp_path):
    """A folder for hundreds of MB, which pytest would keep for a while."""
    yield tmp_path
    shutil.rmtree(tmp_path)


# options, and the shards that a conversion may take: ascending, since peaks do not fall again
REQUESTS = [({"check_finite": False}, 0.25), ({}, 0.75), ({"dtype": "bfloat16"}, 1)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_below_some_shards(large):
    shape = {"hidden_size": 1024, "intermediate_size": 2560, "num_hidden_layers": SHARDS, "num_attention_heads": 8}
    base = tiny_base(**shape, num_key_value_heads=8, head_dim=128)
    total = sum(value.nbytes for value in base.state_dict().values())
    for model, name in ((tiny_base(), "tiny"), (base, "base")):
        model.save_pretrained(large / name, max_shard_size=SHARD_BYTES)
    requests = json.dumps([options for options, _ in REQUESTS])
    outcome = subprocess.run([sys.executable, "-c", MEMORY, str(large), requests], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    for (options, shards), growth in zip(REQUESTS, map(int, outcome.stdout.split()), strict=True):
        print(f"{options}: {growth / 2**20:.0f} of {total / 2**20:.0f} MiB in shards of {SHARD_BYTES / 2**20:.0f}")
        assert growth < shards * SHARD_BYTES
        assert growth < total / 3
