"""Conversion of a repository of the hub: what is asked for, what is downloaded, and what is left where it fails."""

import json
import shutil

import pytest
from transformers import AutoModelForCausalLM

from longgen.errors import ArtifactError
from tests.modeling.fake_hub import COMMIT, FakeHub
from tests.modeling.test_convert import convert, read


@pytest.fixture
def hub(base, tmp_path, monkeypatch):
    fake = FakeHub()
    fake.repositories["acme/tiny"] = base
    (base / "pytorch_model.bin").write_bytes(b"never asked for")
    (base / "tokenizer.json").write_text("{}")
    (base / "original").mkdir()
    (base / "original" / "consolidated.00.pth").write_bytes(b"never asked for")
    with fake.serve(monkeypatch, tmp_path / "cache"):
        yield fake


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_repository_is_downloaded_shard_by_shard(dtype, hub, base, tmp_path, monkeypatch):
    waiting = []  # bytes in the download folder whenever another file is asked for
    monkeypatch.setattr(hub, "on_download", lambda name: waiting.append(sum(map(size, tmp_path.glob(DOWNLOADED)))))
    convert("acme/tiny", tmp_path / "new", dtype=dtype)
    assert "pytorch_model.bin" not in hub.downloads and "original/consolidated.00.pth" not in hub.downloads
    assert all(hub.downloads.count(path.name) == 1 for path in base.glob("*.safetensors"))
    assert max(waiting) == 0, "a shard left the download folder before the next one came"
    local = convert(base, tmp_path / "local", dtype=dtype)
    assert local.written
    for path in (tmp_path / "local").iterdir():
        if path.name not in ("README.md", "longgen_conversion.json"):
            assert path.read_bytes() == (tmp_path / "new" / path.name).read_bytes(), path.name
    assert {path.name for path in (tmp_path / "new").iterdir()} == {p.name for p in (tmp_path / "local").iterdir()}
    source = read(tmp_path / "new" / "longgen_conversion.json")["source"]
    assert (source["name"], source["revision"]) == ("acme/tiny", COMMIT)
    assert "base_model: acme/tiny\n" in (tmp_path / "new" / "README.md").read_text()
    AutoModelForCausalLM.from_pretrained(tmp_path / "new")


DOWNLOADED = ".new.*/.download/*.safetensors"


def size(path) -> int:
    return path.stat().st_size


def test_a_second_call_downloads_no_weights(hub, tmp_path):
    convert("acme/tiny", tmp_path / "new")
    hub.downloads.clear()
    assert not convert("acme/tiny", tmp_path / "new", revision=COMMIT).written
    assert not [name for name in hub.downloads if name.endswith(".safetensors")]


def test_a_wrong_repository_is_refused_before_its_weights_are_downloaded(hub, base, tmp_path):
    values = read(base / "config.json")
    (base / "config.json").write_text(json.dumps(values | {"intermediate_size": 97}))
    with pytest.raises(ArtifactError, match=r"acme/tiny has wrong shapes: .*mlp\.down_proj\.weight \[64, 96\] instead"):
        convert("acme/tiny", tmp_path / "new")
    assert not [name for name in hub.downloads if name.endswith(".safetensors")]
    assert not (tmp_path / "new").exists()


def test_pickles_of_a_repository_are_not_downloaded(hub, base, tmp_path):
    for path in base.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(ArtifactError, match=r"acme/tiny has no \*\.safetensors, only pytorch_model\.bin: a pickle can"):
        convert("acme/tiny", tmp_path / "new")
    assert not [name for name in hub.downloads if name.endswith(".bin")]


def test_a_folder_wins_over_an_id(hub, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme").mkdir()
    shutil.copytree(base, tmp_path / "acme" / "tiny")
    convert("acme/tiny", tmp_path / "new")
    assert not hub.downloads
    assert read(tmp_path / "new" / "longgen_conversion.json")["source"]["revision"] is None


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("acme/none", {}, "acme/none was not found: neither a folder of this path nor a repository of the hub"),
        ("acme/gated", {}, "acme/gated is gated: accept its terms"),
        ("acme/broken", {}, "acme/broken is no folder, and the hub did not give it"),
        ("acme/tiny", {"revision": "v9"}, "revision is 'v9': acme/tiny has no such branch, tag or commit"),
        ("tiny", {}, "tiny has no config.json: .* Both were tried: it is no folder, and no id of the form org/name"),
        ("./acme/tiny", {}, "Both were tried"),
        ("a/b/c", {}, "Both were tried"),
    ],
)
def test_sources_that_are_not_found(source, options, message, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub.refused = {"acme/gated": (403, "GatedRepo"), "acme/broken": (500, "")}
    with pytest.raises(ArtifactError, match=message) as error:
        convert(source, tmp_path / "new", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_offline_the_snapshot_in_the_cache_is_taken(hub, base, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ArtifactError, match=r"the hub did not give it \(.*offline.*\): give a folder, or download"):
        convert("acme/tiny", tmp_path / "new")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for path in base.iterdir():
        if path.is_file():
            huggingface_hub.hf_hub_download("acme/tiny", path.name, cache_dir=str(tmp_path / "cache"))
    online = convert("acme/tiny", tmp_path / "new")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert online.written and not convert("acme/tiny", tmp_path / "new").written, "the same commit"
    assert convert("acme/tiny", tmp_path / "other").written


def test_an_interrupted_download_leaves_nothing(hub, tmp_path, monkeypatch):
    def stop(name):
        if name.startswith("model-00003"):
            raise KeyboardInterrupt

    monkeypatch.setattr("longgen.modeling.conversion.hub.HubSource.file", _after(stop))
    with pytest.raises(KeyboardInterrupt):
        convert("acme/tiny", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} <= {"base", "cache"}


def _after(hook):
    from longgen.modeling.conversion.hub import HubSource

    original = HubSource.file

    def file(self, name, scratch):
        hook(name)
        return original(self, name, scratch)

    return file
