"""Sources of every kind: official schemas, bad records counted with their place, going on from a state."""

import gzip
import json
from pathlib import Path

import pytest

from longgen.data.packing.readers import READERS, Block, read_blocks
from longgen.data.packing.records import BadRecord, Document
from longgen.errors import ArtifactError, ConfigError
from tests.data.packing.corpora import documents, packed, settings, slimpajama, source, write_jsonl


def read(chosen, state=None):
    return list(READERS[chosen.kind](chosen, state))


def as_read(records):
    return [Document(record["meta"]["redpajama_set_name"], record["text"]) for record in records]


def write_parquet(path: Path, records):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(records), path, row_group_size=7)
    return path


def local_sources(folder, records):
    """The same records in every kind of source that holds records."""
    datasets, zstandard = pytest.importorskip("datasets"), pytest.importorskip("zstandard")
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    half = len(records) // 2
    write_jsonl(folder / "jsonl" / "deep" / "a.jsonl", records)
    (folder / "gz").mkdir()
    (folder / "gz" / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "zst").mkdir()
    (folder / "zst" / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    write_parquet(folder / "parquet" / "1.parquet", records[:half])
    write_parquet(folder / "parquet" / "2.parquet", records[half:])
    datasets.Dataset.from_list(records).save_to_disk(folder / "arrow")
    write_parquet(folder / "hub" / "data" / "train-00000-of-00001.parquet", records)
    kinds = {"gz": "jsonl", "zst": "jsonl"}
    return [
        source(folder / name, kind=kinds.get(name, name)) for name in ("jsonl", "gz", "zst", "parquet", "arrow", "hub")
    ]


def test_every_kind_gives_the_same_documents_and_goes_on_from_any_block(tmp_path, monkeypatch):
    monkeypatch.setattr("longgen.data.packing.readers.BLOCK_DOCUMENTS", 8)
    records = [slimpajama(f"dökument {number}\n", "ab"[number % 2]) for number in range(30)]
    for chosen in local_sources(tmp_path, records):
        assert read(chosen) == as_read(records), chosen
        blocks = list(read_blocks(READERS[chosen.kind](chosen)))
        assert len(blocks) == 4
        seen: list[Document] = []
        for block in blocks:
            assert json.loads(json.dumps(block.state)) == block.state
            seen += block.documents
            rest = read(chosen, json.loads(json.dumps(block.state)))
            assert seen + rest == as_read(records), (chosen, block.state)


def test_fields_are_configurable(tmp_path):
    records = [{"raw": {"content": "eins"}, "lang": "de"}, {"raw": {"content": "one"}, "lang": "en"}]
    path = write_jsonl(tmp_path / "a.jsonl", records)
    found = read(source(path, text_field="raw.content", source_field="lang"))
    assert found == [Document("de", "eins"), Document("en", "one")]
    assert read(source(path, text_field="raw.content", source_field=None))[0] == Document("corpus", "eins")


def test_text_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("zwei", encoding="utf-8")
    (tmp_path / "a.txt").write_text("eins", encoding="utf-8")
    (tmp_path / "c.txt").write_bytes(b"ab\xff")
    (tmp_path / "d.txt").write_text(" \n")
    found = read(source(tmp_path, kind="text"))
    assert [found[0], found[3]] == [Document("corpus", "eins"), Document("corpus", "zwei")]
    assert [str(bad) for bad in found[1:3]] == [
        f"{tmp_path}/c.txt: not UTF-8 (invalid start byte at byte 2)",
        f"{tmp_path}/d.txt: empty",
    ]
    first = next(read_blocks(READERS["text"](source(tmp_path, kind="text"))))
    assert read(source(tmp_path, kind="text"), first.state) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut off', "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
        (b'{"text": "\xff"}', "not UTF-8 (invalid start byte at byte 10 of the line)"),
        (b'{"text": "\\ud800", "meta": {"redpajama_set_name": "a"}}', "not UTF-8 text (surrogates not allowed"),
        (b'{"text": "", "meta": {"redpajama_set_name": "a"}}', "field text is empty"),
        (b'{"text": " \\n", "meta": {"redpajama_set_name": "a"}}', "field text is empty"),
        (b'{"text": null, "meta": {"redpajama_set_name": "a"}}', "field text is NoneType, allowed is text"),
        (b'{"text": 3}', "field text is int, allowed is text"),
        (b'{"content": "other schema"}', "field text is missing"),
        (b'{"text": "x"}', "field meta.redpajama_set_name is missing"),
        (b'{"text": "x", "meta": {"source": "other schema"}}', "field meta.redpajama_set_name is missing"),
        (b'{"text": "x", "meta": "{\'source\': 1}"}', "no 'redpajama_set_name' in str, allowed is a mapping"),
        (b'"text"', "no 'text' in str, allowed is a mapping"),
    ],
)
def test_bad_lines_are_named_and_the_rest_is_read(tmp_path, line, reason):
    good = json.dumps(slimpajama("good", "a")).encode()
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([good, b"", line, good]))
    first, bad, last = read(source(path))
    assert first == last == Document("a", "good")
    assert isinstance(bad, BadRecord)
    assert str(bad).startswith(f"{path}, line 3: ")
    assert reason in str(bad)


def test_bad_rows_of_a_parquet_file(tmp_path):
    pytest.importorskip("datasets")
    path = write_parquet(tmp_path / "a.parquet", [slimpajama("x", "a"), slimpajama(None, "a"), slimpajama("", "a")])
    found = [str(entry) for entry in read(source(path, kind="parquet"))[1:]]
    assert found == [f"{path}, row 2: field text is NoneType, allowed is text", f"{path}, row 3: field text is empty"]


def test_schemas_may_differ_between_parquet_files(tmp_path):
    pytest.importorskip("datasets")
    write_parquet(tmp_path / "a.parquet", [slimpajama("x", "a")])
    write_parquet(tmp_path / "b.parquet", [{"text": "y", "meta": {"source": "other"}, "more": 1}])
    good, bad = read(source(tmp_path, kind="parquet"))
    assert good == Document("a", "x")
    assert str(bad) == f"{tmp_path}/b.parquet, row 1: field meta.redpajama_set_name is missing"


def test_broken_files_are_errors_that_name_the_place(tmp_path):
    pytest.importorskip("datasets")
    lines = b"".join(json.dumps(slimpajama(f"{i} {i * i}", "a")).encode() + b"\n" for i in range(2000))
    cases = {"cut.jsonl.gz": gzip.compress(lines)[:-3000], "no.jsonl.gz": b"nothing compressed"}
    cases["no.jsonl.zst"] = b"nothing compressed"
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ArtifactError, match=rf"{name}: cannot be read after line \d+ \("):
            read(source(tmp_path / name))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ArtifactError, match=r"no\.parquet, row 1: cannot be read \(ArrowInvalid"):
        read(source(tmp_path / "no.parquet", kind="parquet"))


def test_missing_sources(tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere holds no file: allowed is .* \.jsonl, \.jsonl\.gz"):
        read(source(tmp_path / "nowhere"))
    with pytest.raises(ArtifactError, match=r"holds no file: allowed is .* \.parquet"):
        read(source(tmp_path / "*.parquet", kind="parquet"))


def test_a_missing_package_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs the package datasets: pip install 'longgen\[data\]'"):
        read(source(tmp_path, kind="hub"))


def test_glob_patterns(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.jsonl.bak"):
        write_jsonl(tmp_path / name, [slimpajama(name, "a")])
    assert [each.text for each in read(source(tmp_path / "*.jsonl"))] == ["a.jsonl", "b.jsonl"]


def test_bad_records_are_counted_and_shown_and_too_many_are_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(record) for record in documents(100)]
    lines[40] = "{"
    lines[70] = json.dumps({"text": "no domain"})
    path.write_text("\n".join(lines))
    chosen = settings(source(path), token_budget=5_000)
    with pytest.raises(ArtifactError) as raised:
        packed(chosen, tmp_path / "out")
    message = str(raised.value)
    assert "source corpus: 2 of 100 records are bad, allowed is a share of 0.001 (max_bad_fraction)" in message
    assert f"{path}, line 41: not JSON" in message
    assert f"{path}, line 71: field meta.redpajama_set_name is missing" in message
    # the same folder goes on with a more forgiving setting
    forgiving = settings(source(path), token_budget=5_000, max_bad_fraction=0.02)
    done, _ = packed(forgiving, tmp_path / "out")
    assert done.records[-1]["bad_records"] == 2
    assert done.records[-1]["documents_read"] == 98
    assert [place.partition(":")[0] for place in done.bad] == [f"{path}, line 41", f"{path}, line 71"]


def test_many_bad_records_stop_a_long_run_early(tmp_path, monkeypatch):
    monkeypatch.setattr("longgen.data.packing.tally.JUDGED_FROM", 100)
    path = write_jsonl(tmp_path / "a.jsonl", [{}] * 5000)
    with pytest.raises(ArtifactError, match=r"256 of 256 records are bad"):
        packed(settings(source(path)), tmp_path / "out")


def test_blocks_end_by_documents_or_characters(tmp_path, monkeypatch):
    monkeypatch.setattr("longgen.data.packing.readers.BLOCK_CHARACTERS", 10)
    path = write_jsonl(tmp_path / "a.jsonl", [slimpajama(text, "a") for text in ("x" * 4, "y" * 7, "z")])
    blocks: list[Block] = list(read_blocks(READERS["jsonl"](source(path))))
    assert [[len(each.text) for each in block.documents] for block in blocks] == [[4, 7], [1]]
