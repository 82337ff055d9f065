"""`longgen probe` and what converts by its record."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from longgen.errors import TO_BE_CONTINUED
from longgen.layout import Layout
from longgen.probed_layout import layout_key
from longgen.results import load_result
from tests.commands import longgen
from tests.probing.models import save_probed_model, write_text
from tests.processes import command, started

HEADS_OPTIONS = ("--by", "heads", "--full-layers", "1", "--candidates", "2", "--placement", "heads")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with ``model``, in which layer 2 alone attends, and ``text``."""
    folder = tmp_path_factory.mktemp("probe")
    save_probed_model(folder / "model", attending={2: None})
    write_text(folder / "text")
    return folder


def words(place: Path, output: Path, *more: str) -> list[str]:
    sizes = ("--block-size", "16", "--local-blocks", "4", "--length", "800", "--prompts", "2", "--facts", "1")
    files = ("--text", str(place / "text"), "--output", str(output), "--layouts", str(output / "layouts"))
    return ["probe", str(place / "model"), "--name", "tiny", "--threads", "1", *sizes, *files, *more]


@pytest.fixture(scope="module")
def record(place) -> Path:
    """That of a probe of the model, with all candidates."""
    longgen(*words(place, place / "results", "--candidates", "0", "--full-layers", "2"))
    return place / "results/tiny/probe.json"


def outcome(path: Path) -> tuple:
    """What was measured, without times."""
    result = load_result(path)
    settings = {key: value for key, value in result.settings.items() if key not in ("seconds", "busy")}
    return result.records, settings


def test_the_record_holds_every_set_with_the_losses_of_every_prompt(record):
    result = load_result(record)
    assert (result.kind, result.run, result.settings["by"]) == ("probe", "tiny", "layers")
    sets = [each["set"] for each in result.records]
    counts = {name: sets.count(name) for name in dict.fromkeys(sets)}
    # of 4 layers: ranked at 1, 2 and 3 full ones; greedy 1 of 4 candidates, then 1 of 3
    placed = {"middle": 3, "interleaved": 3}
    assert counts == {"full": 1, "sparse": 1, "alone": 4, "ranked": 3, "greedy": 2, "candidate": 5} | placed
    for each in result.records:
        assert each["n"] == len(each["answer_losses"]) == len(each["text_losses"]) == 2
        assert all(0 < loss < math.inf for loss in each["answer_losses"] + each["text_losses"])
        assert each["full_layers"] == each["layout"].count("f")
    alone = {each["layer"]: each for each in result.records if each["set"] == "alone"}
    assert alone[1]["layout"] == "fsff"
    full, sparse = (next(each for each in result.records if each["set"] == name) for name in ("full", "sparse"))
    for layer in range(4):
        assert alone[layer]["answer_losses"] == (sparse if layer == 2 else full)["answer_losses"]
    assert sorted(result.settings["order"]) == ["0", "1", "2", "3"]
    assert result.provenance["attention"]["sparse"] == "blocked"
    assert result.provenance["inputs"]["weights"] == result.settings["weights"]
    assert result.settings["busy"].keys() == {"load_before", "load_after", "others", "steal"}


def test_the_number_of_layer_evaluations_is_exact(record):
    """Of one prompt: the ranking by formula; what the curves and the greedy choice still need, by their layouts."""
    result = load_result(record)
    lines = [json.loads(line) for line in record.with_suffix(".measurements.jsonl").read_text().splitlines()]
    assert result.settings["evaluations"] == sum(line["spent"]["evaluations"] for line in lines)
    assert len(lines) == 2 * len({each["layout"] for each in result.records})  # nothing twice
    ranking = [line for line in lines if line["prompt"] == lines[0]["prompt"]][:6]
    assert {line["layout"] for line in ranking} == {"ffff", "ssss", "sfff", "fsff", "ffsf", "fffs"}
    assert sum(line["spent"]["evaluations"] for line in ranking) == 4 + 4 * 5 // 2 + 3


def test_losses_are_those_of_the_converted_model(place, record, tmp_path):
    """The whole way: prompts and layout of the record, a conversion by the layout file, its own forward pass."""
    from longgen.evaluation.perplexity.documents import open_text
    from longgen.evaluation.runs.model import load_model
    from longgen.pattern import SparsePattern
    from longgen.probing.prompts import make_prompts

    file = place / "results/layouts/probed-1-3.json"
    options = ("--block-size", "16", "--local-blocks", "4")
    longgen("convert", place / "model", tmp_path / "hybrid", "--layout", file, *options)
    model, tokenizer = load_model(tmp_path / "hybrid", torch.float32, "cpu")
    text = open_text(str(place / "text"), 800, 0)
    pattern = SparsePattern(16, 1, 4)
    prompts = make_prompts(text, tokenizer, pattern, 2, count=2, length=800, facts=1, seed=0)
    key = layout_key(Layout.from_kinds(json.loads(file.read_text())))
    expected = next(each for each in load_result(record).records if each["layout"] == key)
    for number, prompt in enumerate(prompts):
        row = torch.from_numpy(prompt.tokens)[None]
        with torch.no_grad():
            logits = model(row, use_cache=False).logits[0, :-1].log_softmax(-1)
        nll = -logits.gather(1, row[0, 1:, None])[:, 0]
        found = [nll[torch.from_numpy(places) - 1].mean().item() for places in (prompt.answers, prompt.text)]
        wanted = [expected["answer_losses"][number], expected["text_losses"][number]]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_converted_model_is_probed_as_its_base_is_and_by_its_own_pattern(place, record, tmp_path):
    options = ("--layout", "none", "--block-size", "16", "--local-blocks", "4")
    longgen("convert", place / "model", tmp_path / "model", *options)
    shutil.copytree(place / "text", tmp_path / "text")
    given = words(tmp_path, tmp_path, "--candidates", "0", "--full-layers", "2")
    own = [word for word in given if word not in ("--block-size", "16", "--local-blocks", "4")]
    longgen(*own)
    records, settings = outcome(tmp_path / "tiny/probe.json")
    wanted, expected = outcome(record)
    assert records == wanted
    assert settings["weights"] == expected["weights"]  # the fingerprint is of the weights alone
    assert settings["pattern"] == expected["pattern"]


# ------------------------------------------------------------------------------------------ going on
@pytest.mark.slow
def test_a_killed_probe_goes_on_and_measures_nothing_twice(place, record, tmp_path):
    """Killed at some moments of its computation; what it had measured stays, and the end is the same."""
    given = words(place, tmp_path, "--candidates", "0", "--full-layers", "2")
    measurements = tmp_path / "tiny/probe.measurements.jsonl"
    kept = 0
    for _ in range(3):
        process = started(_killed_after, 5, *given)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        whole = measurements.read_bytes().count(b"\n")
        assert whole == kept + 5
        kept = whole
        with measurements.open("ab") as file:
            file.write(b'{"by": "half a li')  # as if it had been writing
    longgen(*given)
    assert outcome(tmp_path / "tiny/probe.json")[0] == outcome(record)[0]
    lines = [json.loads(line) for line in measurements.read_text().splitlines()]
    keys = [(line["prompt"], line["layout"]) for line in lines]
    assert len(set(keys)) == len(keys) == 2 * len({each["layout"] for each in outcome(record)[0]})


def _killed_after(count: int, *given: str) -> None:
    """For a process: the command, killed while its ``count``-th measurement is being told."""
    from longgen.probing import store

    add, told = store.MeasurementCost.add, 0

    def counted(self, piece):
        nonlocal told
        add(self, piece)
        told += "seen" not in vars(self)
        if told == before[0] + count:
            os.kill(os.getpid(), signal.SIGKILL)

    path = Path(given[given.index("--output") + 1]) / "tiny/probe.measurements.jsonl"
    before = [path.read_bytes().count(b"\n") if path.exists() else 0]
    store.MeasurementCost.add = counted
    command(*given)


def test_time_that_is_over_ends_it_with_75_and_it_goes_on(place, record, tmp_path):
    given = words(place, tmp_path, "--candidates", "0", "--full-layers", "2")
    said = longgen(*given, "--minutes", "0.000001", code=TO_BE_CONTINUED)
    assert "stopped, since the time is over: what was measured is in" in said
    assert len((tmp_path / "tiny/probe.measurements.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "tiny/probe.json").exists()
    longgen(*given)
    assert outcome(tmp_path / "tiny/probe.json")[0] == outcome(record)[0]


def test_without_text_it_reads_what_every_machine_has(place, tmp_path):
    given = words(place, tmp_path, "--full-layers", "0", "--placement", "middle")
    at = given.index("--text")
    said = longgen(*given[:at], *given[at + 2 :])
    settings = load_result(tmp_path / "tiny/probe.json").settings
    assert settings["text"] == "stand-in: python-stdlib and pydoc-topics"
    assert settings["stand_in"]
    assert "all full: " in said
    assert "all sparse: " in said


def test_measurements_of_another_pattern_or_model_are_not_taken_for_its_own(place, record, tmp_path):
    given = words(place, tmp_path, "--full-layers", "1")
    longgen(*given)
    first = outcome(tmp_path / "tiny/probe.json")[0]
    other = [word if word != "4" else "3" for word in given]
    longgen(*other)
    assert outcome(tmp_path / "tiny/probe.json")[0] != first
    longgen(*given)
    assert outcome(tmp_path / "tiny/probe.json")[0] == first


def test_more_prompts_go_on_from_fewer(place, tmp_path):
    given = words(place, tmp_path, "--full-layers", "1")
    longgen(*given)
    measurements = tmp_path / "tiny/probe.measurements.jsonl"
    first, known = outcome(tmp_path / "tiny/probe.json")[0], len(measurements.read_text().splitlines())
    longgen(*given, "--prompts", "3")
    more = outcome(tmp_path / "tiny/probe.json")[0]
    alone = [each["answer_losses"] for each in more if each["set"] == "alone"]
    assert [losses[:2] for losses in alone] == [each["answer_losses"] for each in first if each["set"] == "alone"]
    lines = [json.loads(line) for line in measurements.read_text().splitlines()]
    assert len({(line["prompt"], line["layout"]) for line in lines}) == len(lines)
    assert len({line["prompt"] for line in lines[:known]}) == 2


def test_two_at_once_are_refused(place, tmp_path):
    from longgen.evaluation.runs.line_files import append_to

    with append_to(tmp_path / "tiny/probe.measurements.jsonl"):
        said = longgen(*words(place, tmp_path), code=2)
    assert "is being written by another process" in said


# ------------------------------------------------------------------------------------------ layouts
def test_layouts_are_the_greedy_choice_and_then_the_ranking(place, record):
    result = load_result(record)
    order = [int(unit) for unit in result.settings["order"]]
    greedy = [each["layer"] for each in result.records if each["set"] == "greedy"]
    assert order[:2] == greedy
    cost = {each["layer"]: np.mean(each["answer_losses"]) for each in result.records if each["set"] == "alone"}
    assert order[2:] == sorted(set(range(4)) - set(greedy), key=lambda layer: (-cost[layer], layer))
    for share, count in (("1-12", 0), ("1-6", 1), ("1-3", 1)):
        kinds = json.loads((place / f"results/layouts/probed-{share}.json").read_text())
        assert [layer for layer, kind in enumerate(kinds) if kind == "full"] == sorted(order[:count])


def test_a_probed_layout_converts_the_model_that_was_probed(place, record, tmp_path):
    order = [int(unit) for unit in load_result(record).settings["order"]]
    longgen("convert", place / "model", tmp_path / "hybrid", "--layout", "probed:3", "--probe", record)
    config = json.loads((tmp_path / "hybrid/config.json").read_text())
    full = [layer for layer, kind in enumerate(config["longgen"]["layout"]) if kind == "full"]
    assert full == sorted(order[:3])
    said = longgen("convert", place / "model", tmp_path / "hybrid", "--layout", "probed:3", "--probe", record)
    assert "nothing to do" in said


def test_heads_are_probed_and_placed(place, tmp_path):
    model = save_probed_model(tmp_path / "model", attending={1: 1})
    shutil.copytree(place / "text", tmp_path / "text")
    longgen(*words(tmp_path, tmp_path / "results", *HEADS_OPTIONS))
    path = tmp_path / "results/tiny/probe-heads.json"
    result = load_result(path)
    assert result.settings["by"] == "heads"
    alone = {(each["layer"], each["head"]): each for each in result.records if each["set"] == "alone"}
    sparse = next(each for each in result.records if each["set"] == "sparse")
    assert len(alone) == 8
    assert alone[1, 1]["answer_losses"] == sparse["answer_losses"]
    assert alone[1, 1]["layout"] == "f[fs]ff"
    assert all(len(group) == 2 for group in result.settings["candidates"])  # a layer's worth
    longgen("convert", model, tmp_path / "hybrid", "--layout", "probed-heads:1", "--probe", path)
    layout = json.loads((tmp_path / "hybrid/config.json").read_text())["longgen"]["layout"]
    chosen = {
        f"{layer}.{head}" for layer, kinds in enumerate(layout) for head, kind in enumerate(kinds) if kind == "full"
    }
    assert chosen == set(result.settings["order"][:2])
    said = longgen("convert", model, tmp_path / "other", "--layout", "probed:1", "--probe", path, code=2)
    assert "is a probe by heads, and layers are asked for" in said


def test_a_probed_layout_is_refused_where_it_would_be_another_models(place, record, tmp_path):
    convert = ("convert", place / "model", tmp_path / "hybrid", "--layout")
    assert "layout is 'probed:1/6': allowed is that with --probe" in longgen(*convert, "probed:1/6", code=2)
    said = longgen(*convert, "middle:1/3", "--probe", record, code=2)
    assert "layout is 'middle:1/3': allowed is a layout such as probed:1/6 with --probe" in said
    assert "full_layers is '5'" in longgen(*convert, "probed:5", "--probe", record, code=2)
    said = longgen(*convert, "probed-heads:1", "--probe", record, code=2)
    assert "is a probe by layers, and heads are asked for" in said
    other = save_probed_model(tmp_path / "other")
    said = longgen("convert", other, tmp_path / "hybrid", "--layout", "probed:1", "--probe", record, code=2)
    assert "is a probe of another model (weights " in said
    deep = save_probed_model(tmp_path / "deep", layers=6)
    said = longgen("convert", deep, tmp_path / "hybrid", "--layout", "probed:1", "--probe", record, code=2)
    assert "is a probe of 4 layers with 2 KV heads each: the model has 6 with 2" in said
    assert not (tmp_path / "hybrid").exists()
    bad = tmp_path / "probe.json"
    for change, message in (
        (lambda value: value["settings"]["order"].pop(), "does not name every layer or head once"),
        (lambda value: value["settings"].pop("weights"), "weights is missing"),
        (lambda value: value.update(kind="speed"), "is of kind 'speed': allowed is 'probe'"),
    ):
        value = json.loads(record.read_text())
        change(value)
        bad.write_text(json.dumps(value))
        assert message in longgen(*convert, "probed:1", "--probe", bad, code=2)
    assert "is missing: `longgen probe MODEL`" in longgen(*convert, "probed:1", "--probe", tmp_path / "no.json", code=2)


# ------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--length", "5000"), "--length is 5000: allowed is at most 4096"),
        (("--length", "200"), "--length is 200: 1 facts need"),
        (("--full-layers", "5"), "--full-layers is '5'"),
        (("--placement", "centre"), "--placement is 'centre': allowed are middle"),
        (("--dtype", "int8"), "--dtype is 'int8'"),
        (("--minutes", "0"), "--minutes is 0.0"),
        (("--stride", "4"), "--stride is 4 with --pattern sink"),
        (("--text", "nowhere"), "--text is 'nowhere'"),
        (("--name", "A b"), "name is 'A b'"),
    ],
)
def test_what_cannot_be_probed_is_refused(place, tmp_path, more, message):
    assert message in longgen(*words(place, tmp_path, *more), code=2)
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_that_is_no_model_is_refused(place, tmp_path):
    assert "has no config.json" in longgen("probe", tmp_path, "--output", tmp_path / "results", code=2)
    shutil.copytree(place / "model", tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copytree(place / "text", tmp_path / "text")
    assert str(tmp_path / "model") in longgen(*words(tmp_path, tmp_path / "results"), code=2)
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    model.model.layers[1].mlp.up_proj.weight.data.fill_(float("nan"))
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(place / "model", tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    assert "the loss is not a number" in longgen(*words(tmp_path, tmp_path / "results"), code=2)
