"""Going on after kills, full disks and damage; refusing to mix what does not belong together."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longgen.data.packing.pack import pack
from longgen.errors import ArtifactError, ConfigError, OutputError
from tests.data.packing.corpora import digests, documents, packed, settings, slimpajama, source, upsampled, write_jsonl
from tests.waiting import runs, wait_until

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("longgen.data.packing.readers.BLOCK_DOCUMENTS", 16)
    path = write_jsonl(tmp_path / "corpus.jsonl", documents(150))
    return upsampled(settings(source(path), token_budget=6_000), factor=2)


def run_until(event, chosen, folder):
    """Pack in a process that kills itself with SIGKILL at the write number ``event``, which it leaves half done."""

    def child():
        save, rename, seen = np.save, Path.replace, 0

        def half(action, path, *rest):
            nonlocal seen
            seen += 1
            if seen == event:
                if action is save:
                    Path(path).write_bytes(b"\x93NUMPY half a file")
                os.kill(os.getpid(), signal.SIGKILL)
            return action(path, *rest)

        np.save = lambda *arguments: half(save, *arguments)
        Path.replace = lambda *arguments: half(rename, *arguments)
        pack(chosen, folder)

    process = FORK.Process(target=child)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.slow
def test_killed_at_any_write_and_gone_on_with(tmp_path, chosen):
    pack(chosen, tmp_path / "whole")
    expected = digests(tmp_path / "whole")
    event, codes = 1, []
    while not codes or codes[-1] == -signal.SIGKILL:
        folder = tmp_path / f"killed-{event}"
        codes.append(run_until(event, chosen, folder))
        if codes[-1] == -signal.SIGKILL:
            assert not (folder / "manifest.json").exists(), "unfinished, and says so"
        pack(chosen, folder)
        assert digests(folder) == expected, event
        event += 1
    assert codes[-1] == 0
    assert event > 30, "shards of documents and of rows were hit"


def test_killed_again_and_again(tmp_path, chosen):
    pack(chosen, tmp_path / "whole")
    folder, kills = tmp_path / "killed", 0
    while run_until(6, chosen, folder) == -signal.SIGKILL:
        kills += 1
        assert kills < 50
    assert kills >= 5
    assert digests(folder) == digests(tmp_path / "whole")


# `longgen pack`, whose process tells of its children and is killed when the second shard of documents is there.
KILLED = """
import os, signal, sys
from pathlib import Path
from longgen.cli import main
rename, process = Path.replace, os.getpid()
def replace(path, target):
    rename(path, target)
    if (target.parent.name, target.name) == ("documents", "00001"):
        print(Path(f"/proc/{process}/task/{process}/children").read_text(), flush=True)
        os.kill(process, signal.SIGKILL)
Path.replace = replace
main()
"""


@pytest.mark.slow
def test_the_command_with_workers_killed_from_outside(tmp_path):
    records = [slimpajama(f"{number} " + "long " * 2000, "a") for number in range(3000)]
    path = write_jsonl(tmp_path / "corpus.jsonl", records)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: test\nsources: [{{name: corpus, kind: jsonl, path: {path}, source_field: null}}]\ntokenizer: bytes\n"
        "method: cut\nlengths: [1000]\ntoken_budget: 500_000\nshard_tokens: 500_000\n"
    )
    words = ["pack", str(config), "--workers", "2", "--output", str(tmp_path / "killed")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL
    workers = [int(word) for word in killed.stdout.split()]
    assert len(workers) >= 2
    assert not (tmp_path / "killed" / "manifest.json").exists()
    wait_until(lambda: not any(map(runs, workers)), "orphans stay behind")
    command = [sys.executable, "-c", "from longgen.cli import main; main()", *words]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "500,000 tokens" in finished.stdout
    base = settings(source(path, source_field=None), lengths=[1000], token_budget=500_000, shard_tokens=500_000)
    pack(base, tmp_path / "whole")
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_a_finished_packing_is_left_alone(tmp_path, chosen):
    first = pack(chosen, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = pack(replace(chosen, workers=2, max_bad_fraction=0.5), tmp_path / "out")
    assert (first.written, again.written) == (True, False)
    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_full_disk_is_an_error_that_leaves_whole_shards(tmp_path, chosen, monkeypatch):
    save, calls = np.save, 0

    def full(path, array):
        nonlocal calls
        calls += 1
        if calls == 5:
            Path(path).write_bytes(b"\x93NUMPY half")
            raise OSError(28, "No space left on device")
        save(path, array)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match=r"documents/00001: cannot be written \(.*No space left.*goes on from"):
        pack(chosen, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "documents").iterdir()] == ["00000"]
    monkeypatch.setattr(np, "save", save)
    pack(chosen, tmp_path / "out")
    pack(chosen, tmp_path / "whole")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_damaged_shard_is_never_taken_as_whole(tmp_path, chosen):
    pack(chosen, tmp_path / "whole")
    folder = tmp_path / "out"
    pack(chosen, folder)
    (folder / "manifest.json").unlink()  # as if killed before the end
    path = sorted((folder / "rows").rglob("tokens.npy"))[1]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ArtifactError, match=rf"{path.parent} is damaged .*: delete it, `longgen pack` remakes it"):
        pack(chosen, folder)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    pack(chosen, folder)
    assert digests(folder) == digests(tmp_path / "whole")


def test_damaged_documents(tmp_path, chosen):
    folder = tmp_path / "out"
    assert run_until(25, chosen, folder) == -signal.SIGKILL
    tokens = folder / "documents" / "00001" / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(ArtifactError, match=r"tokens\.bin has \d+ bytes instead of \d+: delete .*00001"):
        pack(chosen, folder)


def test_sources_without_a_document(tmp_path, chosen):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ArtifactError, match="the sources hold no document"):
        pack(replace(chosen, sources=[source(tmp_path / "empty.jsonl")]), tmp_path / "out")


def test_what_does_not_belong_together_is_refused(tmp_path, chosen):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"other holds thesis\.tex: allowed is a new folder"):
        pack(chosen, tmp_path / "other")
    pack(chosen, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"out was begun with other token_budget, seed: go on with the same"):
        packed(replace(chosen, seed=1, token_budget=5_000), tmp_path / "out")
    with (tmp_path / "corpus.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(ConfigError, match=r"out was begun with other inputs"):
        pack(chosen, tmp_path / "out")
