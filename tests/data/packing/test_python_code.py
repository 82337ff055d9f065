"""Stand-in data: Python files become documents with domains, and a tokenizer, from which the configuration packs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from longgen.data.packing.configuration import load_pack_settings
from longgen.data.packing.python_code import main, python_documents, write_python_code
from longgen.errors import ArtifactError
from tests.data.packing.corpora import packed

CONFIG = Path(__file__).parents[3] / "config" / "data" / "python-code-32k.yaml"
FILES = {
    "lib/a.py": "library\n",
    "lib/test/b.py": "tests\n",
    "lib/site-packages/torch/c.py": "a package where the library has them inside\n",
    "lib/blank.py": " \n",
    "lib/notes.txt": "not Python\n",
    "packages/torch/nn/d.py": "torch\n",
    "packages/torch/tests/e.py": "tests of torch\n",
    "packages/small/f.py": "small\n",
    "packages/g.py": "a single file \u00e9\n",
}


@pytest.fixture
def roots(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "packages/latin.py").write_bytes(b"# \xe9\n")
    return tmp_path / "lib", tmp_path / "packages"


def test_documents_and_domains(roots):
    found = [(document.domain, document.text) for document in python_documents(*roots)]
    assert found == [
        ("standard library", "library\n"),
        ("library tests", "tests\n"),
        ("other packages", "a single file \u00e9\n"),
        ("other packages", "# \ufffd\n"),
        ("other packages", "small\n"),
        ("torch", "torch\n"),
        ("torch", "tests of torch\n"),
    ]


def test_the_configuration_packs_it(roots, tmp_path):
    for number in range(30):  # what the tokenizer learns from is one document in fifteen
        (roots[0] / f"module_{number:02}.py").write_text(f"def function_{number}():\n    return {number}\n" * 9)
    folder = tmp_path / "python-code"
    write_python_code(*roots, folder, vocabulary_size=270)
    lines = (folder / "documents.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"text": "library\n", "meta": {"source": "standard library"}}
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    assert len(tokenizer) == 270
    assert tokenizer.decode(tokenizer.encode("return \u00e9")) == "return \u00e9"
    settings = load_pack_settings(CONFIG)
    source = replace(settings.sources[0], path=str(folder / "documents.jsonl"))
    upsampling = replace(settings.upsampling, threshold=64)
    small = {"lengths": [32], "token_budget": 640, "sources": [source], "tokenizer": str(folder / "tokenizer")}
    done, rows = packed(replace(settings, **small, upsampling=upsampling), tmp_path / "out")
    assert rows.vocabulary_size == 270
    assert len(rows) == 20
    assert {record["domain"] for record in done.records[:-1]} == {
        "standard library",
        "library tests",
        "torch",
        "other packages",
    }
    assert done.records[-1]["workers"] == settings.workers == 2


def test_nothing_is_overwritten_and_nothing_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert f"{tmp_path} exists: delete it, or give another folder" in capsys.readouterr().err
    with pytest.raises(ArtifactError, match=r"hold no \*\.py with text"):
        write_python_code(tmp_path, tmp_path, tmp_path / "none")
    assert not (tmp_path / "none").exists()
