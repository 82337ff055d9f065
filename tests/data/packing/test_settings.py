"""Settings and the command: what it is told, what it says, what it writes."""

from pathlib import Path

import pytest
import yaml

from longgen.data.packing.configuration import load_pack_settings
from longgen.errors import ConfigError
from longgen.results import load_result
from tests.commands import longgen
from tests.data.packing.corpora import documents, slimpajama, write_jsonl

EXAMPLE = Path(__file__).parents[3] / "config" / "data" / "slimpajama-128k.yaml"


def config_file(folder: Path, **changes: object) -> Path:
    corpus = folder / "corpus.jsonl"
    given = {
        "name": "test",
        "sources": [
            {"name": "s", "kind": "jsonl", "path": str(corpus), "source_field": "meta.redpajama_set_name"},
        ],
        "tokenizer": "bytes",
        "method": "per-source",
        "upsampling": {"threshold": 64, "factor": 3},
        "lengths": [128],
        "token_budget": 8_000,
        "shard_tokens": 4_000,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (given | changes).items() if value is not None}))
    return path


def test_the_example_is_the_recipe_of_the_paper():
    settings = load_pack_settings(EXAMPLE)
    assert settings.method == "per-source"
    assert (settings.upsampling.threshold, settings.upsampling.factor) == (4096, 10)
    assert settings.lengths == [131072]
    assert settings.tokens == 38_146 * 131_072 <= 5_000_000_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "persource"}, "method is 'persource': allowed is per-source, global, cut, buckets"),
        ({"method": "cut"}, "allowed is none with method cut"),
        ({"upsampling": None}, r"upsampling.factor, share is \[None, None\]: allowed is one of the two with method"),
        ({"upsampling": {"factor": 2, "share": 0.5}}, r"upsampling.factor, share is \[2.0, 0.5\]: allowed is one"),
        ({"upsampling": {"factor": 0.5}}, "upsampling.factor is 0.5: allowed is a number >= 1"),
        ({"upsampling": {"share": 0.0}}, "upsampling.share is 0.0"),
        (
            {"lengths": [128, 256], "token_budget": 400},
            "token_budget is 400: allowed is enough for a row of every length",
        ),
        (
            {"lengths": [128, 256], "length_shares": [1.0]},
            "length_shares is .*: allowed is 2 shares > 0 that add up to 1",
        ),
        (
            {"lengths": [128, 256], "length_shares": [0.5, 0.5], "method": "buckets", "upsampling": None},
            "length_shares is .*: allowed is null with method buckets",
        ),
        (
            {"lengths": [128], "shuffle_rows": True, "method": "buckets", "upsampling": None},
            "shuffle_rows is True: allowed is false with method buckets",
        ),
        ({"lookups": {"share": 0}}, r"lookups.share is 0.*: allowed is a number within 0..1, not 0"),
        (
            {"lookups": {"share": 0.5, "kinds": ["needle"]}},
            r"lookups.kinds\[0\] is 'needle': allowed is number, place",
        ),
        ({"lengths": [96], "method": "buckets", "upsampling": None}, "powers of two with method buckets"),
        ({"lengths": []}, "lengths is .*: allowed is at least one"),
        ({"lengths": [128, 128]}, "each once"),
        ({"token_budget": 127}, "token_budget is 127: allowed is a number >= 128, one row"),
        ({"mixture": {"a": 0.5, "b": 0.1}}, r"mixture is .*: allowed is shares > 0 that add up to 1"),
        (
            {"mixture": {"a": 1.0}, "method": "cut", "upsampling": None},
            "mixture is .*: allowed is none with method cut",
        ),
        ({"sources": []}, "sources is .*: allowed is at least one"),
        (
            {"sources": [{"name": "s", "kind": "web", "path": "x"}]},
            r"sources\[0\].kind is 'web': allowed is hub, jsonl",
        ),
        ({"sources": [{"name": "s", "kind": "hub"}]}, r"sources\[0\].path is missing"),
        ({"sources": [{"name": "s", "kind": "hub", "path": ""}]}, r"sources\[0\].path is ''"),
        ({"workers": 0}, "workers is 0: allowed is a whole number >= 1"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction is 1.5"),
        ({"max_bad_fractoin": 0.1}, "did you mean 'max_bad_fraction'"),
    ],
)
def test_impossible_settings(tmp_path, changes, message):
    path = config_file(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message) as raised:
        load_pack_settings(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_the_command(tmp_path):
    write_jsonl(tmp_path / "corpus.jsonl", [*documents(300), {}])
    config = config_file(tmp_path, max_bad_fraction=0.01)
    arguments = ["pack", config, "--output", tmp_path / "out", "--result", tmp_path / "result.json"]
    printed = longgen(*arguments)
    for expected in ("RedPajamaBook", "tokens used", "7,936 tokens", "tokens read per second", "1 bad records"):
        assert expected in printed
    assert f"{tmp_path}/corpus.jsonl, line 301: field text is missing" in printed
    result = load_result(tmp_path / "result.json")
    assert (result.kind, result.run) == ("packing", "test")
    assert result.settings["token_budget"] == 8_000
    assert result.records[-1]["tokens_used"] == 7_936
    assert [record["domain"] for record in result.records if record["bad_records"]] == ["s", None]
    assert "nothing to do" in longgen(*arguments)
    assert load_result(tmp_path / "result.json").records == result.records


def test_shares_in_the_terminal_are_without_duplicates(tmp_path):
    long, short = "x" * 98, "y" * 48  # 100 and 50 tokens with BOS and EOS
    written = [slimpajama(text, domain) for text, domain in ((long, "a"), (short, "a"), *[(f"{short[1:]}b", "b")] * 4)]
    write_jsonl(tmp_path / "corpus.jsonl", written)
    config = config_file(tmp_path, lengths=[10], token_budget=10, upsampling={"threshold": 64, "factor": 1})
    output = longgen("pack", config, "--output", tmp_path / "out")
    cells = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}
    assert cells["a"][:5] == ["150", "75.0", "%", "66.7", "%"]
    assert cells["b"][:5] == ["200", "25.0", "%", "0.0", "%"], "the first of four alike"
