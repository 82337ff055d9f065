"""The steps without Snakemake: the same commands and files, on machines that are bare each time."""

import json
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest

from longgen.config import load_experiment
from longgen.data.corpus import build_corpus
from longgen.errors import ArtifactError, ConfigError
from longgen.results import load_result
from longgen.steps import run
from longgen.steps.__main__ import main, run_command
from longgen.steps.experiment import experiment_steps
from longgen.steps.pieces import MANIFEST, Item, load_pieces, save_pieces
from longgen.steps.step import Journal, Step, needed_by, steps_left
from longgen.training.stopping import SIGNALS
from tests.experiments import experiment_file, tiny_settings
from tests.workflow.test_workflow import snakemake

ROOT = Path(__file__).parents[2]


def toy_settings(**changes) -> dict:
    settings = tiny_settings()
    settings["evaluation"] |= {"lengths": [256], "depths": [0.5], "samples_per_cell": 1, "perplexity_documents": 1}
    reduction = {"methods": ["snapkv", "duo-attention"], "budgets_of": ["middle"], "samples_per_cell": 1}
    settings["evaluation"]["kv_reduction"] = reduction | {
        "duo_attention": {"steps": 1, "length": 192, "pattern": "sink"}
    }
    settings["profiling"] = {"lengths": [256], "training_lengths": [64], "repeats": 3, "decode_tokens": 1, "threads": 1}
    return settings | changes


def toy_steps(folder: Path, variants=("full", "middle"), discard_models=False) -> list[Step]:
    path = experiment_file(folder, toy_settings())
    given = load_experiment(path), path, variants, "default", Path("results/tiny"), Path("artifacts/tiny")
    return experiment_steps(*given, discard_models=discard_models)


def asked(words: list[str]) -> list[str]:
    """The words of a command, but for what says how many processors it gets, in an order that no command depends on."""
    for option in ("--threads", "--cpus-per-task"):
        if option in words:
            place = words.index(option)
            words = words[:place] + words[place + 2 :]
    return sorted(words)


def test_the_commands_are_those_of_the_workflow(tmp_path):
    """Rules and steps name the same inputs and outputs, so that they make the same files."""
    for name in ("Snakefile", "workflows"):
        (tmp_path / name).symlink_to(ROOT / name)
    steps = toy_steps(tmp_path)
    output = snakemake(tmp_path, "--dry-run", "--printshellcmds", "--config", "experiment=tiny.yaml")
    commands = re.findall(r"^Shell command: (.*) 2> >\(tee", output, re.MULTILINE)
    training = "python -m longgen.training.launch"
    planned = sorted(asked(shlex.split(command.replace(training, "longgen train"))) for command in commands)
    planned.remove(asked(shlex.split("longgen figures tiny --html")))
    mine = [asked(["longgen", *(word.replace(f"{tmp_path}/", "") for word in step.words)]) for step in steps]
    assert sorted(mine) == planned
    # and by the files that Snakemake wants of them they are judged to be done
    outputs = {path for line in re.findall(r"^    output: (.*)", output, re.MULTILINE) for path in line.split(", ")}
    assert {str(path) for step in steps for path in step.results} == {
        path for path in outputs if path.startswith("results/")
    }


# ---------------------------------------------------------------- which steps are left
def chain(folder: Path) -> list[Step]:
    """Text, a model of it, and what is asked of the model, each with its results; the last two share the model."""
    text = Step("text", (), makes=folder / "text", results=(folder / "text.json",), settings=1)
    model = Step("model", (), ("text",), makes=folder / "model", results=(folder / "model.json",), temporary=True)
    one, two = (Step(name, (), ("model",), results=(folder / f"{name}.json",)) for name in ("one", "two"))
    return [text, model, one, two]


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def do(step: Step, steps: list[Step], journal: Journal) -> None:
    for path in (*step.results, step.makes):
        if path is not None:
            path.touch()
    journal.add(step.name, run.identities(steps)[step.name])


def test_what_is_left_follows_from_what_is_there(tmp_path):
    steps, journal = chain(tmp_path), Journal.open(tmp_path / "steps.json")
    assert names(steps_left(steps, journal)) == ["text", "model", "one", "two"]
    for count, step in enumerate(steps):
        do(step, steps, journal)
        assert names(steps_left(steps, Journal.open(tmp_path / "steps.json"))) == names(steps)[count + 1 :]
    (tmp_path / "model").unlink()
    assert steps_left(steps, journal) == [], "all that is wanted is there: a model that nothing needs is not"
    (tmp_path / "two.json").unlink()
    assert names(steps_left(steps, journal)) == ["model", "two"]
    (tmp_path / "text").unlink()
    assert names(steps_left(steps, journal)) == ["text", "model", "two"]
    assert needed_by(steps[2:]) == {"model"}


def test_other_settings_do_anew_what_depends_on_them(tmp_path):
    steps, journal = chain(tmp_path), Journal.open(tmp_path / "steps.json")
    for step in steps:
        do(step, steps, journal)
    changed = [Step(**(vars(step) | {"settings": 2})) if step.name == "model" else step for step in steps]
    assert names(steps_left(changed, journal)) == ["model", "one", "two"]


# ---------------------------------------------------------------- pieces
@pytest.fixture
def roots(tmp_path):
    folders = {name: tmp_path / "here" / name for name in ("results", "artifacts")}
    for folder in folders.values():
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "file").write_text(folder.name)
    return folders


def saved(tmp_path, roots, *more: Item, at: float = 5.0) -> list[str]:
    items = [Item("results", [roots["results"]]), Item("base", [roots["artifacts"] / "sub"]), *more]
    return save_pieces(tmp_path / "pieces", "tiny", at, roots, items)


def test_pieces_are_small_and_hold_what_matters_most(tmp_path, roots, monkeypatch):
    import random

    monkeypatch.setattr("longgen.steps.pieces.PIECE_BYTES", 1000)
    monkeypatch.setattr("longgen.steps.pieces.MOST_BYTES", 16_000)
    for name, size in (("large", 4500), ("larger", 1900), ("small", 900)):
        (roots["artifacts"] / name).write_bytes(random.Random(0).randbytes(size))
    more = [Item(name, [roots["artifacts"] / name]) for name in ("large", "larger", "small")]
    # a manifest, one piece each of the first two, five of the next one: the others find no room
    assert saved(tmp_path, roots, *more) == ["larger", "small"]
    files = list((tmp_path / "pieces").iterdir())
    assert len(files) == 8
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", path.name) for path in files)
    assert sum(path.stat().st_size for path in files) < 16_000
    there = {name: tmp_path / "there" / name for name in roots}
    assert load_pieces(tmp_path / "pieces", "tiny", 0.0, there)
    for name in roots:
        assert (there[name] / "sub" / "file").read_text() == name
    assert (there["artifacts"] / "large").read_bytes() == (roots["artifacts"] / "large").read_bytes()
    monkeypatch.setattr("longgen.steps.pieces.MOST_BYTES", 10_001)
    with pytest.raises(ArtifactError, match="results of run tiny does not fit in 10,001 bytes"):
        saved(tmp_path, roots)


def test_what_is_as_new_as_the_pieces_stays_and_what_is_older_goes(tmp_path, roots):
    saved(tmp_path, roots)
    (roots["results"] / "later").touch()
    assert not load_pieces(tmp_path / "pieces", "tiny", 5.0, roots)
    assert (roots["results"] / "later").exists()
    assert load_pieces(tmp_path / "pieces", "tiny", 4.0, roots)
    assert not (roots["results"] / "later").exists(), "no mixture of two states"
    with pytest.raises(ArtifactError, match=r"results was not made by longgen\.steps, and pieces would replace it"):
        load_pieces(tmp_path / "pieces", "tiny", 0.0, roots)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BAD_PIECES = {
    "base.tar.gz-0 is missing or damaged": lambda folder: flip(folder / "base.tar.gz-0"),
    "results.tar.gz-0 is missing or damaged": lambda folder: (folder / "results.tar.gz-0").unlink(),
    "is not readable as JSON": lambda folder: (folder / MANIFEST).write_text("{"),
    "not of format 1": lambda folder: (folder / MANIFEST).write_text('{"format": 2}'),
    "other.txt is none of the pieces": lambda folder: (folder / "other.txt").touch(),
}


@pytest.mark.parametrize(("message", "spoil"), BAD_PIECES.items())
def test_bad_pieces_are_refused_and_nothing_changes(tmp_path, roots, message, spoil):
    saved(tmp_path, roots)
    spoil(tmp_path / "pieces")
    with pytest.raises(ArtifactError, match=message):
        load_pieces(tmp_path / "pieces", "tiny", 1.0, roots)
    assert (roots["results"] / "sub" / "file").exists()


def test_pieces_of_another_run_are_refused(tmp_path, roots):
    saved(tmp_path, roots)
    with pytest.raises(ArtifactError, match="has pieces of run 'tiny': allowed are those of 'mini'"):
        load_pieces(tmp_path / "pieces", "mini", 0.0, roots)


# ---------------------------------------------------------------- a whole run, call by call
def call(folder: Path, machine: str, *words: str) -> int:
    """One call on a machine, which has its own folders and gets the pieces of the one before."""
    places = ("--results", folder / machine / "results", "--artifacts", folder / machine / "artifacts")
    fixed = [str(folder / "tiny.yaml"), *map(str, places), "--pieces", str(folder / "pieces"), "--discard-models"]
    fixed += ["--minutes", "600"]
    return main([*fixed, *words, "--threads", "1"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy run on two machines, the first of which stops while it trains the base model; and the commands that ran."""
    folder, told = tmp_path_factory.mktemp("steps"), []
    settings = toy_settings()
    settings["base"]["phases"][0]["steps"] = 4
    experiment_file(folder, settings)
    patch = pytest.MonkeyPatch()

    def command(words):
        told.append(list(words))
        if words[0] == "train" and "base" in words and "--minutes" in words and len(told) == 4:
            words = [*words[: words.index("--minutes") + 1], "1e-9"]  # as if there was no more time
        run_command(words)

    patch.setattr("longgen.steps.__main__.run_command", command)
    for name in ("snakemake", "pandas", "matplotlib", "lm_eval", "datasets"):
        patch.setitem(sys.modules, name, None)  # an import of it fails
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    codes = [call(folder, "first"), call(folder, "second")]
    for number, handler in handlers.items():  # what has stopped is about to end, and listens to nothing more
        signal.signal(number, handler)
    patch.undo()
    return folder, codes, told


def test_a_run_goes_on_where_another_machine_stopped(finished, monkeypatch):
    folder, codes, told = finished
    assert codes == [75, 0]
    done = [words[0] for words in told]
    first = ["plan", "prepare", "prepare", "train"]
    # corpus and checkpoint came with the pieces; rows are made again
    second = ["prepare", "train", "prepare", "convert", "train", "evaluate", "gates", "evaluate"]
    assert done == [*first, *second, "convert", "train", "evaluate", "profile"]
    metrics = (folder / "second/artifacts/tiny/metrics/base/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [2, 3, 4], "the first step is that of the other machine"
    again = []
    monkeypatch.setattr("longgen.steps.__main__.run_command", again.append)
    assert call(folder, "second") == call(folder, "third") == 0
    assert again == []
    results = sorted((folder / "third/results/tiny").rglob("*.json"))
    assert results == [
        folder / "third" / path.relative_to(folder / "second")
        for path in sorted((folder / "second/results/tiny").rglob("*.json"))
    ]
    assert {load_result(path).run for path in results} == {"tiny"}
    assert len(results) == 12


def test_models_are_deleted_when_nothing_needs_them(finished):
    made = {path.name for path in (finished[0] / "second/artifacts/tiny").iterdir()}
    assert made >= {"base", "corpus", "gates.json", "rows", "steps.json"}
    for name in ("models", "converted", "checkpoints"):
        assert not list((finished[0] / "second/artifacts/tiny" / name).glob("*"))


def test_a_call_without_time_does_nothing_but_unpack(finished):
    folder, _, _ = finished
    assert call(folder, "fourth", "--minutes", "1e-9") == 0, "all is done"
    assert (folder / "fourth/results/tiny/profile/speed.json").exists()
    bare = folder / "bare"
    bare.mkdir()
    shutil.copy(folder / "tiny.yaml", bare)
    assert call(bare, "machine", "--minutes", "1e-9") == 75
    assert not (bare / "pieces").exists()


def test_another_corpus_than_the_one_that_results_are_of_is_refused(finished, monkeypatch):
    folder, _, _ = finished
    call(folder, "fifth")
    machine = folder / "fifth"
    shutil.rmtree(machine / "artifacts/tiny/corpus", ignore_errors=True)
    (machine / "results/tiny/evaluation/middle/retrieval.json").unlink()
    original = build_corpus

    def other_text(settings, output):
        return [record | {"tokens": 1} for record in original(settings, output)]

    monkeypatch.setattr("longgen.data.corpus.build_corpus", other_text)
    with pytest.raises(ArtifactError, match=r"corpus\.json is no more what it was"):
        call(folder, "fifth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"benchmarks": {"long_text": {"length": 256, "documents": 1}}}, "benchmarks is 'given': allowed is null"),
        ({"setups": {"default": {"processes": 2}}}, "setups.default.processes is 2: allowed is 1 or null"),
    ],
)
def test_what_only_the_workflow_does_is_refused(tmp_path, change, message):
    path = experiment_file(tmp_path, toy_settings(**change))
    experiment = load_experiment(path)
    with pytest.raises(ConfigError, match=message):
        experiment_steps(experiment, path, ["full"], "default", tmp_path, tmp_path)


def test_an_unknown_variant_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="select is 'full,nonsense'"):
        main([str(experiment_file(tmp_path)), "--select", "full,nonsense"])
