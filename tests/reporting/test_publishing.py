"""Promoting a run: what is copied, recorded, warned of and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longgen.errors import ArtifactError, ConfigError
from longgen.reporting.publishing import RECORD_FILE, publish_run
from longgen.reporting.run import open_run
from tests.reporting.fake_run import write_run


def test_copies_results_and_records_their_origin(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    (folder / "stray.log").write_text("not a result")
    assert publish_run("smoke", "smoke-cpu", tmp_path) == []
    published = tmp_path / "published/smoke-cpu"
    originals = {path.relative_to(folder) for path in folder.rglob("*.json")}
    copies = {path.relative_to(published) for path in published.rglob("*") if path.is_file()}
    assert copies == originals | {Path(RECORD_FILE)}
    for path in originals:
        assert (published / path).read_bytes() == (folder / path).read_bytes()
    record = json.loads((published / RECORD_FILE).read_text())
    assert record["kind"] == "publication"
    assert {row["file"] for row in record["records"]} == {path.as_posix() for path in originals}
    assert record["settings"] == {"from": "smoke", "warnings": []}
    assert open_run("published/smoke-cpu", tmp_path).frame("speed").shape[0] > 0


def test_refuses_to_overwrite_unless_forced(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    publish_run("smoke", "kept", tmp_path)
    (folder / "profile/memory.json").unlink()
    with pytest.raises(ConfigError, match="--force"):
        publish_run("smoke", "kept", tmp_path)
    assert (tmp_path / "published/kept/profile/memory.json").exists()
    publish_run("smoke", "kept", tmp_path, force=True)
    assert not (tmp_path / "published/kept/profile/memory.json").exists(), "replaced as a whole, not merged"
    assert [path.name for path in (tmp_path / "published").iterdir()] == ["kept"], "no temporary folder stays"


def test_uncommitted_changes_and_mixed_commits_are_warned_of_and_recorded(tmp_path: Path) -> None:
    path = write_run(tmp_path / "smoke", dirty=True) / "profile/speed.json"
    path.write_text(path.read_text().replace("abc123", "def456").replace("Pretend Processor", "Other Processor"))
    warnings = publish_run("smoke", "mixed", tmp_path)
    assert len(warnings) == 3
    assert "with uncommitted changes" in warnings[0]
    assert "2 commits: abc123, def456" in warnings[1]
    assert "2 devices: Other Processor 9000, Pretend Processor 9000" in warnings[2]
    record = json.loads((tmp_path / "published/mixed" / RECORD_FILE).read_text())
    assert record["settings"]["warnings"] == warnings
    dirty = {row["file"]: row["git_dirty"] for row in record["records"]}
    assert dirty["plan.json"] is True


def test_a_broken_file_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    (folder / "profile/speed.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"speed\.json"):
        publish_run("smoke", "kept", tmp_path)
    assert not (tmp_path / "published").exists()


@pytest.mark.parametrize("name", ["published", "../kept", "A b", ""])
def test_unusable_names(name: str, tmp_path: Path) -> None:
    write_run(tmp_path / "smoke")
    with pytest.raises(ConfigError, match="name is"):
        publish_run("smoke", name, tmp_path)


def test_absent_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no results"):
        publish_run("nowhere", "kept", tmp_path)
