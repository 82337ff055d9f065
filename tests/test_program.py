"""How programs end: one line and an exit code for what the user can mend, a traceback for what is our fault."""

import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
import zipfile

import pytest
import torch
import yaml
from safetensors import safe_open
from tokenizers import Tokenizer

from longgen.errors import ArtifactError, ConfigError, OutputError
from longgen.files import atomic_directory, atomic_file, read_json, write_json
from longgen.foreign import in_words, no_room, reading
from longgen.program import run_program
from longgen.training.checkpoint import Progress, load_checkpoint, save_checkpoint


def raised(function, *arguments):
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


def outcome(monkeypatch, capsys, function, *words):
    """Exit code and what was written to standard error."""
    monkeypatch.setattr(sys, "argv", ["longgen", *words])
    monkeypatch.setenv("LONGGEN_DEBUG", "")
    with pytest.raises(SystemExit) as end:
        run_program(function)
    return end.value.code, capsys.readouterr().err


def foreign_errors(folder):
    """The true errors of libraries that read damaged files, each with the words that must be shown."""
    damaged = folder / "damaged"
    damaged.write_bytes(b"\xff\xfe{")
    return [
        (raised(damaged.joinpath("x").read_bytes), f"{damaged / 'x'}: {os.strerror(errno.ENOTDIR)}"),
        (raised((folder / "none").read_bytes), f"{folder / 'none'}: {os.strerror(errno.ENOENT)}"),
        (raised(json.loads, "{"), "not JSON (Expecting property name"),
        (raised(damaged.read_text, "utf-8"), "text in another encoding ('utf-8' codec can't decode byte 0xff"),
        (raised("\u03c3".encode, "ascii"), "text in another encoding ('ascii' codec can't encode"),
        (raised(yaml.safe_load, "a: [\nb"), "while parsing a flow sequence"),
        (raised(lambda: safe_open(damaged, "pt")), "header"),
        (raised(lambda: Tokenizer.from_str("{}")), "Model missing"),
        (raised(zipfile.ZipFile, damaged), "damaged archive"),
        (raised(torch.empty, 1 << 60), "out of memory (["),
        (MemoryError(), "out of memory (MemoryError)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory (CUDA out of memory"),
        (ConnectionError("the hub cannot be reached\nsee its page"), "the hub cannot be reached"),
    ]


def test_foreign_errors_of_known_kinds_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    for error, words in foreign_errors(tmp_path):

        def fail(error=error):
            raise error

        code, shown = outcome(monkeypatch, capsys, fail)
        assert code == 2, error
        assert shown.startswith("longgen: error: "), error
        assert words in shown, error
        assert len(shown.splitlines()) == 1, error


def test_debug_shows_the_traceback_and_is_no_argument(monkeypatch, capsys):
    def fail():
        assert sys.argv == ["longgen", "plan"]
        raise ConfigError("impossible")

    code, shown = outcome(monkeypatch, capsys, fail, "plan", "--debug")
    assert code == 2
    assert shown.startswith("Traceback (most recent call last)")
    assert shown.endswith("longgen: error: impossible\n")


def test_other_errors_are_faults_and_stay_what_they_are(monkeypatch):
    for fault in (KeyError("x"), TypeError("y"), RuntimeError("shapes differ"), ValueError("z"), Exception("unknown")):

        def fail(fault=fault):
            raise fault

        monkeypatch.setattr(sys, "argv", ["longgen"])
        with pytest.raises(type(fault)):
            run_program(fail)


@pytest.mark.parametrize(("returned", "code"), [(None, None), (0, 0), (75, 75)])
def test_exit_codes(monkeypatch, capsys, returned, code):
    assert outcome(monkeypatch, capsys, lambda: returned) == (code, "")


def test_interrupted(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert outcome(monkeypatch, capsys, interrupted) == (130, "")


def in_a_process(body, encoding="utf-8", **options):
    program = f"from longgen.program import run_program\ndef main():\n    {body}\nrun_program(main)"
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, **options)


def test_a_terminal_without_unicode_shows_plain_signs():
    body = r"print('1.5\u00d7 (1.2\u20131.8), \u2265 3 \u00b5s, \u03c3, \udce9')"
    found = in_a_process(body, "ascii", stdout=subprocess.PIPE)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"1.5x (1.2-1.8), >= 3 us, \\u03c3, \\udce9\n", b"")


def test_standard_output_that_is_full_or_closed():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        found = in_a_process("print('x')", stdout=full)
    assert (found.returncode, found.stderr) == (2, f"longgen: error: {os.strerror(errno.ENOSPC)}\n".encode())
    reader, writer = os.pipe()
    os.close(reader)
    found = in_a_process("print('x')", stdout=writer)
    os.close(writer)
    assert (found.returncode, found.stderr) == (1, b"")


@contextlib.contextmanager
def small_files():
    """The system itself refuses to let files grow beyond 1,000 bytes, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_tensors(folder):
    from safetensors.torch import save_file

    with atomic_directory(folder) as temporary:
        save_file({"x": torch.zeros(10_000)}, temporary / "model.safetensors")


def write_array(folder):
    import numpy as np

    with atomic_directory(folder) as temporary:
        np.save(temporary / "tokens.npy", np.zeros(10_000))


def write_part(folder):
    with atomic_directory(folder) as temporary:
        write_json(temporary / "deep" / "part.json", list(range(1_000)))


def write_text(path):
    with atomic_file(path) as temporary:
        temporary.write_text("x" * 10_000)


def write_tokenizer(folder):
    from longgen.data.synthetic.tokenizer import save_byte_tokenizer

    with atomic_directory(folder) as temporary:
        save_byte_tokenizer(temporary)


@pytest.mark.parametrize("write", [write_tensors, write_array, write_part, write_text, write_tokenizer])
def test_what_there_is_no_room_for_leaves_nothing_and_says_so(tmp_path, write):
    target = tmp_path / "target"
    with small_files(), pytest.raises(OutputError) as caught:
        write(target)
    assert str(caught.value).startswith(f"{target}: cannot be written (")
    assert "free there): make room, and give the same command again" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_the_way_of_a_file_or_folder_is_named(tmp_path):
    """Before the work as after it, and never by the name of something temporary."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place, writes, reason in [
        ("folder", (atomic_file,), "a folder of that name is there"),
        ("file", (atomic_directory,), "a file of that name is there"),
        ("file/x", (atomic_file, atomic_directory), f"{tmp_path / 'file'} is a file"),
    ]:
        for write in writes:
            with pytest.raises(OutputError) as caught, write(tmp_path / place):
                pass
            assert str(caught.value) == f"{tmp_path / place}: cannot be written ({reason}): give a path where it can be"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}
    with pytest.raises(ArtifactError, match=r"folder cannot be read \(Is a directory\): give a file that `it` made"):
        read_json(tmp_path / "folder", "it")


def test_a_checkpoint_that_there_is_no_room_for_leaves_the_one_before(tmp_path):
    model, folder = torch.nn.Linear(64, 64), tmp_path / "checkpoints"
    optimizer = torch.optim.SGD(model.parameters())
    save_checkpoint(folder, model, [optimizer], Progress("run", step=1))
    message = r"checkpoints: cannot be written .*goes on from the last checkpoint there"
    with small_files(), pytest.raises(OutputError, match=message):
        save_checkpoint(folder, model, [optimizer], Progress("run", step=2))
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
    assert load_checkpoint(folder, model, [optimizer], "run").step == 1


def test_only_a_lack_of_room_is_one():
    assert no_room(OSError(errno.ENOENT, "No such file")) is None
    assert no_room(ValueError("no such key")) is None
    assert no_room(OSError("40000 requested and 872 written")) == "40000 requested and 872 written"
    assert no_room(Exception("No space left on device (os error 28)")) == "No space left on device"


def test_what_a_library_stumbles_over_in_a_file_names_the_file():
    def read(error):
        with reading("config.json", "make it anew"):
            raise error

    with pytest.raises(ArtifactError, match=r"^config.json cannot be read \(KeyError: 'x'\): make it anew$"):
        read(KeyError("x"))
    with pytest.raises(ConfigError, match="ours"):
        read(ConfigError("ours"))
    with pytest.raises(MemoryError):
        read(MemoryError())


def test_every_program_ends_so():
    """Modules that can be run, by ``python -m`` or as a command, all end by `run_program`."""
    from pathlib import Path

    import longgen

    root = Path(longgen.__file__).parent
    modules = [path for path in root.rglob("*.py") if 'if __name__ == "__main__"' in path.read_text("utf-8")]
    assert len(modules) >= 7
    for path in modules:
        end = path.read_text("utf-8").rpartition('if __name__ == "__main__"')[2]
        assert "run_program(" in end or "    main()\n" in end, path
        if "run_program(" not in end:
            assert "from longgen.cli import main" in path.read_text("utf-8"), path


def test_kinds_are_known_by_their_class():
    assert in_words(KeyError("x")) is None
    assert in_words(Exception("anything")) is None
