"""The machine's own storage: copies are those of the files, made once, and only where there is room."""

import os
import shutil
import tempfile
from types import SimpleNamespace

import pytest

from longgen import scratch
from longgen.config import load_experiment
from longgen.errors import ConfigError
from longgen.scratch import SCRATCH, local_copy, scratch_folder, use_scratch
from longgen.training.rows import load_rows
from tests.experiments import experiment_file, prepare_base
from tests.processes import finished, started


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "shared" / "rows"
    (folder / "sub").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "sub" / "shard").write_bytes(bytes(1000))
    return folder


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_NUMBER", "3")
    monkeypatch.setenv(SCRATCH, str(tmp_path / "node-$NODE_NUMBER"))
    return tmp_path / "node-3"


@pytest.mark.parametrize("given", ["", "/scratch/$A_VARIABLE_OF_JOBS"])
def test_without_scratch_everything_stays_where_it_is(source, monkeypatch, given):
    monkeypatch.setenv(SCRATCH, given)
    assert scratch_folder() is None
    assert local_copy(source) == source
    before = dict(os.environ)
    use_scratch()
    assert dict(os.environ) == before


def test_a_copy_is_made_once_and_again_when_the_files_change(source, node):
    copy = local_copy(source)
    assert copy.parent == node / "copies"
    assert (copy / "sub" / "shard").read_bytes() == bytes(1000)
    (copy / "mark").touch()
    assert local_copy(source) == copy and (copy / "mark").exists(), "it was copied again"
    (source / "sub" / "shard").write_bytes(bytes(999))
    assert local_copy(source) != copy
    assert len((local_copy(source) / "sub" / "shard").read_bytes()) == 999


def wait_for_copy(folder, node, report) -> None:
    os.environ[SCRATCH] = str(node)  # that of the process it is forked from may be older
    report.write_text(str(local_copy(folder)))


@pytest.mark.slow
def test_processes_of_a_machine_share_a_copy(source, node, tmp_path):
    finished(wait_for_copy, source, node, tmp_path / "warm")
    shutil.rmtree(node / "copies")
    many = [started(wait_for_copy, source, node, tmp_path / f"report-{index}") for index in range(4)]
    for process in many:
        process.join()
        assert process.exitcode == 0
    assert len({(tmp_path / f"report-{index}").read_text() for index in range(4)}) == 1
    assert len([path for path in (node / "copies").iterdir() if path.is_dir()]) == 1


def test_what_does_not_fit_is_read_where_it_is(source, node, monkeypatch, capsys):
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    assert local_copy(source) == source
    assert f"LONGGEN_SCRATCH: no room for 0.0 GB of {source}" in capsys.readouterr().err


def test_training_reads_its_rows_from_the_copy(node, tmp_path):
    config = experiment_file(tmp_path)
    prepare_base(config)
    phases, _ = load_rows(tmp_path / "rows", load_experiment(config).base, 512)
    assert str(phases[0].tokens.filename).startswith(str(node / "copies"))


def test_temporary_files_and_compiled_kernels_go_there(node, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/mine")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    use_scratch()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(node / "inductor")
    assert os.environ["TRITON_CACHE_DIR"] == "/mine", "what is set stays"
    with tempfile.NamedTemporaryFile() as file:
        assert file.name.startswith(str(node / "tmp"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")


def test_a_folder_that_cannot_be_is_an_error(monkeypatch):
    monkeypatch.setenv(SCRATCH, "/proc/longgen")
    with pytest.raises(
        ConfigError, match="LONGGEN_SCRATCH is '/proc/longgen': allowed is a folder that can be written"
    ):
        scratch_folder()
