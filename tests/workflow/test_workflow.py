"""The pipeline as a user meets it: planned jobs, a real run at toy size, reruns, published figures."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from longgen.cli import app
from longgen.config import load_experiment
from longgen.errors import TO_BE_CONTINUED
from longgen.hardware import main_memory
from longgen.reporting import BENCHMARKS, EXPERIMENT, FIGURE_NAMES, PROBE, REDUCTIONS, TABLES
from longgen.reporting.drawing import settle_layout
from tests.experiments import tiny_settings
from tests.reporting.look import problems_of, recorded_words
from tests.training.extensions import extension_settings, packing, prepared
from tests.workflow.browser import NAMES, browser, opened

pytestmark = pytest.mark.slow  # what they share is a run

ROOT = Path(__file__).parents[2]
CAPTIONS = ROOT / "workflows" / "report"


def environment() -> dict[str, str]:
    """This one, with the programs of this Python first on the PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def longgen(folder: Path, *words: str) -> str:
    """What `longgen` prints."""
    command = [Path(sys.executable).with_name("longgen"), *words]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True).stdout


def snakemake(folder: Path, *words: str, check: bool = True) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *words]
    outcome = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    output = outcome.stdout + outcome.stderr
    assert (outcome.returncode == 0) == check, output
    return output


def planned(output: str) -> dict[str, list[str]]:
    """Rule -> the wildcards of each job that a dry run plans."""
    jobs: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\[|(?:local)?rule )", output):
        found = re.search(r"^(?:local)?rule (\w+):", block, re.MULTILINE)
        if found:
            wildcards = re.search(r"wildcards: (.*)", block)
            jobs.setdefault(found[1], []).append(wildcards[1] if wildcards else "")
    return jobs


def working_copy(folder: Path) -> Path:
    """The tracked files as they are in the working tree: a fresh clone, before or after the commit."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return working_copy(tmp_path_factory.mktemp("clone"))


def toy_settings() -> dict:
    settings = tiny_settings()
    asked = settings["benchmarks"]
    asked["suites"]["recall"] |= {"tasks": ["needle", "multikey"], "task_samples": {"multikey": 1}}
    asked["suites"] |= {
        "needle": {"samples": 1, "lengths": [512], "tasks": ["keys"], "depths": [0.5]},
        "longbench": {"samples": 1, "tasks": ["samsum", "lcc_e"]},
    }
    asked["batch_tokens"] = 2048
    asked["kv_reduction"] = {
        "methods": ["snapkv", "duo-attention"],
        "budgets_of": ["ends", "middle"],  # ends is not trained by default
        "suites": ["recall", "needle"],
        "lengths": [256, 512],
        "duo_attention": {"steps": 1, "length": 192, "pattern": "sink"},
    }
    return settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy in which a toy experiment ran to its end."""
    folder = working_copy(tmp_path_factory.mktemp("finished"))
    (folder / "toy.yaml").write_text(yaml.safe_dump(toy_settings(), sort_keys=False))
    (folder / "toy.log").write_text(snakemake(folder, "--config", "experiment=toy.yaml"))
    return folder


def test_a_fresh_clone_plans_the_whole_run_whatever_is_published(clone):
    output = snakemake(clone, "--dry-run", "--printshellcmds")
    jobs = planned(output)
    # on this machine: the processors that Snakemake schedules a job with, whatever it would ask of a cluster
    assert output.count("launch --cpus-per-task 1 ") == 5
    assert output.count(" --threads 1 ") == 5 + 2 * 4 + 1 + 1  # these, answers and perplexity, gates, reductions
    assert output.count(" --then perplexity ") == 4
    assert {rule: len(wildcards) for rule, wildcards in jobs.items()} == {
        "corpus": 1,
        "plan": 1,
        "profile": 1,
        "rows": 2,
        "base": 1,
        "convert": 4,
        "extend": 4,
        "prompts": 1,
        "answer": 4,
        "score": 4,
        "gates": 1,
        "answer_reduced": 1,
        "score_reduced": 1,
        "run_figures": 1,
        "all": 1,
    }
    everything = planned(snakemake(clone, "--dry-run", "--config", "select=all"))
    assert len(everything["extend"]) == 11
    assert len(everything["base"]) == len(everything["gates"]) == 1
    assert sorted(everything["score_reduced"]) == ["budget=longgen-sink", "budget=middle-1-2", "budget=middle-1-6"]
    some = planned(snakemake(clone, "--dry-run", "--config", "select=full,all-sparse"))
    assert "run_figures" in some
    assert not {"gates", "answer_reduced"} & some.keys(), "no hybrid whose budget is asked for"


@pytest.mark.parametrize("name", ["llama2-7b", "llama2-70b"])
def test_a_checkpoint_is_converted_and_extended_on_packed_rows_by_the_set_up_that_was_asked_for(clone, name):
    # as on a cluster, where a command gets all processors that its job asked for
    words = ["--dry-run", "--printshellcmds", "--mode", "remote", "--config"]
    output = snakemake(clone, *words, f"experiment=config/{name}.yaml", "setup=64-gpus")
    jobs = {rule: len(wildcards) for rule, wildcards in planned(output).items()}
    trained = {"pack": 1, "plan": 1, "convert": 3, "extend": 3, "all": 1}
    # 8 shards of 3 models, and as many of each of 8 methods on the full one
    asked = {"prompts": 4, "answer": 24, "answer_reduced": 64, "score": 3, "score_reduced": 1, "gates": 1}
    asked |= {"perplexity": 3, "short_context": 3, "run_figures": 1}
    assert jobs == trained | (asked if name == "llama2-7b" else {})
    assert output.count("python -m longgen.training.launch --cpus-per-task 8 ") >= 3
    assert output.count(" --threads 8 ") >= 3
    extending = re.findall(r"rule extend:.*?resources: (.*?)\n", output, re.DOTALL)
    assert len(extending) == 3
    for resources in extending:
        wanted = {"nodes=8", "tasks=64", "gres=gpu:8", "cpus_per_task=8", "tasks_per_gpu=0", "mpi=srun"}
        assert wanted <= set(resources.split(", "))
        assert re.search(r"slurm_extra='--ntasks-per-node=8' '--signal=USR1@\d+'", resources)
    assert "--setup 64-gpus --variant longgen-sink" in output
    assert f"longgen convert meta-llama/L{name[1:5]}-2-{name[7:]}-hf" in output
    assert "--dtype bfloat16" in output


def test_the_pretrained_experiment_is_planned_whole(clone):
    jobs = planned(snakemake(clone, "--dry-run", "--config", "experiment=config/smollm2.yaml", "select=all"))
    assert len(jobs["untrained"]) == 4
    assert len(jobs["probe"]) == 1
    assert (
        len(jobs["convert"]) == len(jobs["extend"]) == len(load_experiment(ROOT / "config/smollm2.yaml").variants) - 4
    )


def test_an_experiment_that_trains_nothing(clone):
    chosen = ("--config", "experiment=config/smollm2-untrained.yaml", "select=full,probed-1-6")
    jobs = planned(snakemake(clone, "--dry-run", *chosen))
    assert len(jobs["untrained"]) == len(jobs["answer"]) == 2
    assert "probe" in jobs and not {"convert", "extend"} & set(jobs)


def test_an_experiment_on_packed_rows_runs_to_its_end_without_snakemake_too(tmp_path):
    folder = prepared(working_copy(tmp_path))
    shutil.rmtree(folder / "rows")
    (folder / "pack.yaml").write_text(yaml.safe_dump(packing(folder)))
    given = extension_settings()
    given["setups"] = {"one": {}, "two": {"processes": 2, "sequence_parallel": 2, "recompute": True}}
    given["setup"] = "one"
    given["variants"]["untrained"] = given["variants"]["middle"] | {"trained": False}
    (folder / "extension.yaml").write_text(yaml.safe_dump(given))
    chosen = ["--config", "experiment=extension.yaml", "select=full,middle,untrained"]
    # by the script for machines without Snakemake, in calls that are too short
    script = longgen(folder, "commands", "extension.yaml", "--select", "full,middle,untrained", "--cpus", "1")
    (folder / "run.sh").write_text(script)
    subprocess.run(["bash", "run.sh"], cwd=folder, env=environment(), check=True)
    results = folder / "results" / "tiny"
    made = {path.relative_to(results).as_posix() for path in results.rglob("*.json")}
    assert made == {"plan.json", "packing.json", "training/full.json", "training/middle.json"}
    assert (folder / "artifacts" / "tiny" / "models" / "middle" / "model.safetensors").exists()
    assert not list((folder / "artifacts" / "tiny" / "converted").glob("*/*")), "a converted model is temporary"
    assert "Nothing to be done" in snakemake(folder, *chosen)
    # in a run without benchmarks nothing asks for a model that is not trained
    snakemake(folder, *chosen, "--", "artifacts/tiny/models/untrained")
    # what is not trained is as it was, positions included
    places = {"base": folder / "base"} | {
        name: results.parents[1] / f"artifacts/tiny/models/{name}" for name in ("middle", "untrained")
    }
    weights = {name: (place / "model.safetensors").read_bytes() for name, place in places.items()}
    assert weights["untrained"] == weights["base"] != weights["middle"]
    read = {name: json.loads((place / "config.json").read_text()) for name, place in places.items()}
    assert read["untrained"]["longgen"] == read["middle"]["longgen"]
    assert read["untrained"]["rope_parameters"] == read["base"]["rope_parameters"] != read["middle"]["rope_parameters"]


def test_jobs_with_a_gpu_go_to_the_partition_that_the_environment_names(clone, monkeypatch):
    monkeypatch.setenv("LONGGEN_SLURM_PARTITION", "plain")
    monkeypatch.setenv("LONGGEN_SLURM_GPU_PARTITION", "fast")
    output = snakemake(clone, "--dry-run", "--config", "experiment=config/llama2-7b.yaml")
    found = set(re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: .*slurm_partition=(\w+)", output, re.MULTILINE))
    assert {("extend", "fast"), ("answer", "fast"), ("convert", "plain"), ("pack", "plain")} <= found
    assert len(dict(found)) == len(found), "a rule goes to one partition"


def test_published_figures_are_redrawn_from_tracked_results_alone(clone, undrawn, monkeypatch):
    """Their numbers, and how they look: the toy run shows that pictures come of them, which take most of the time."""
    looks = {}

    def settle(figure):
        with recorded_words() as words:
            settle_layout(figure)
        looks[f"figure {len(looks)}: {figure.get_suptitle()}, {figure.texts[1].get_text()}"] = problems_of(
            figure, words
        )

    monkeypatch.setattr("longgen.reporting.drawing.settle_layout", settle)
    output = snakemake(clone, "--dry-run", "--printshellcmds", "figures")
    assert planned(output) == {"figures": [""]}
    (command,) = re.findall(r"longgen (figures .*) 2> ", output)
    published = [*(clone / "paper_figures" / "published").rglob("*.csv"), clone / "docs" / "results.md"]
    assert len(published) > 10
    readme = clone / "README.md"
    texts = [*published, *(clone / "paper_figures").rglob("*.md"), *(clone / "docs").rglob("*.md"), readme]
    before = {path: path.read_bytes() for path in texts}
    for path in published:
        path.unlink()
    readme.write_text(re.sub(r"\| LongGen .*\n", "", readme.read_text("utf-8")), "utf-8")
    assert readme.read_bytes() != before[readme]
    monkeypatch.chdir(clone)
    assert CliRunner().invoke(app, command.split(), catch_exceptions=False).exit_code == 0
    assert {path: path.read_bytes() for path in texts} == before
    assert not (clone / "artifacts" / "smoke").exists()
    assert len(looks) > 40
    assert {name: wrong for name, wrong in looks.items() if wrong} == {}


def test_the_toy_run_makes_every_file_and_a_second_run_nothing(finished):
    figures = finished / "paper_figures" / "tiny"
    with (figures / "ablation.csv").open() as file:
        assert [row["variant"] for row in csv.DictReader(file)] == ["full", "middle"]
    made = {path.name for path in figures.iterdir()}
    assert {"claims.csv", "claims.md", "needle.png", "needle.pdf", "needle.csv", "kv_reductions.md"} <= made
    with (figures / "kv_reductions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == {"full", "middle", "snapkv", "duo-attention"}
    assert {(row["budget_of"], row["task"]) for row in rows} == {("middle", "needle"), ("middle", "multikey")}
    assert {row["length"] for row in rows} == {"256"}
    assert {"perplexity.png", "benchmark_scores.md", "benchmark_summary.md"} <= made
    with (figures / "benchmark_scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["variant"], row["method"], row["budget_of"]) for row in rows} == {
        ("full", "none", "none"),
        ("full", "snapkv", "middle"),
        ("full", "duo-attention", "middle"),
        ("middle", "none", "none"),
    }
    assert {row["task"] for row in rows} == {"needle", "multikey", "keys", "samsum", "lcc_e"}
    assert {row["benchmark"] for row in rows if row["stand_in"] == "False"} == {"recall"}
    assert "Nothing to be done" in snakemake(finished, "--config", "experiment=toy.yaml")


def test_jobs_share_the_main_memory_of_this_machine(finished):
    assert re.search(rf"Provided resources: mem_mb=\D+{main_memory() // 2**20}\b", (finished / "toy.log").read_text())


def test_status_says_that_all_is_there_and_what_more_variants_would_take(finished):
    assert "would do nothing: all is there." in longgen(finished, "status", "toy.yaml")
    words = [Path(sys.executable).with_name("longgen"), "status", "toy.yaml", "--select", "all", "--json"]
    more = subprocess.run(words, cwd=finished, env=environment(), capture_output=True, text=True)
    assert more.returncode == TO_BE_CONTINUED, more.stderr
    states = {(job["rule"], job["wildcards"].get("variant")): job["state"] for job in json.loads(more.stdout)["jobs"]}
    assert states["base", None] == states["extend", "middle"] == "done"
    assert states["extend", "ends"] == states["answer", "ends"] == "to do"


@pytest.fixture(scope="module")
def report(finished):
    """The report of the toy run; made while its configuration is still the one it ran with."""
    snakemake(finished, "--config", "experiment=toy.yaml", "--report", "report.html")
    return finished / "report.html"


def shown(report: Path) -> dict[str, dict]:
    """Name -> what the report holds of that figure or table."""
    found = re.search(r'<script id="results">\s*var results = (.*);', report.read_text(encoding="utf-8"))
    return {Path(path).name: result for path, result in json.loads(found[1]).items()}


def test_the_report_holds_every_figure_and_table_with_its_caption(finished, report):
    made = {path.name for path in (finished / "paper_figures" / "tiny").iterdir()}
    results = shown(report)
    assert set(results) == {name for name in made if name.endswith((".png", ".html"))}
    assert {"needle.png", "perplexity.png", "claims.html", "kv_reductions.html"} <= set(results)
    for name, result in results.items():
        title, _, _, *caption = (CAPTIONS / name).with_suffix(".rst").read_text().splitlines()
        assert result["labels"] == {"title": title}
        assert " ".join(caption) == unescape(re.sub(r"<.*?>", "", " ".join(result["caption"].split())))
        data = base64.b64decode(result["data_uri"].partition("base64,")[2])
        assert data == (finished / "paper_figures" / "tiny" / name).read_bytes()
    assert "Stand-in data are no benchmark." in report.read_text(encoding="utf-8")


@pytest.mark.skipif(browser() is None, reason=f"none of {', '.join(NAMES)} is on the PATH: `apt install chromium`")
def test_a_browser_without_a_network_shows_the_report_without_an_error(report, tmp_path):
    script = """
    const loaded = {};
    for (const [path, result] of Object.entries(results)) {
      if (!result.mime_type.startsWith("image/")) continue;
      const image = new Image();
      await new Promise((done) => { image.onload = image.onerror = done; image.src = result.data_uri; });
      loaded[path.split("/").pop()] = image.naturalWidth;
    }
    // as a click on each eye and i does: every picture, table and caption
    const clicked = {};
    for (const [path, result] of Object.entries(results)) {
      const content = result.mime_type.startsWith("image/") ? "img" : "html";
      app.setView({content, contentPath: result.data_uri, resultPath: path, navbarMode: "resultinfo"});
      await new Promise((done) => setTimeout(done, 50));
      const sources = [...document.querySelectorAll("#app img, #app iframe")].map((each) => each.src);
      clicked[path.split("/").pop()] = [sources.includes(result.data_uri), document.querySelector("#app").innerText];
    }
    const table = Object.keys(results).find((path) => path.endsWith("claims.html"));
    app.setView({content: "html", contentPath: results[table].data_uri, resultPath: table, navbarMode: "resultinfo"});
    await new Promise((done) => setTimeout(done, 100));
    return {loaded, clicked, described: document.querySelector("#app").innerText};
    """
    told = opened(report, script, tmp_path)
    assert told["problems"] == told["fetched"] == []
    loaded = told["answer"]["loaded"]
    assert loaded.keys() == {name for name in shown(report) if name.endswith(".png")}
    assert min(loaded.values()) > 500, "a picture is broken or empty"
    assert told["answer"]["clicked"].keys() == shown(report).keys()
    for name, (is_there, words) in told["answer"]["clicked"].items():
        _, _, _, caption, *_ = (CAPTIONS / name).with_suffix(".rst").read_text().splitlines()
        assert is_there, name
        assert " ".join(caption.replace("`", "").replace("*", "").split()) in " ".join(words.split()), name
    assert "neither confirms nor refutes the paper" in told["answer"]["described"]
    assert (tmp_path / "screenshot.png").stat().st_size > 20_000


def test_every_figure_and_table_of_the_pipeline_has_a_caption():
    names = {*FIGURE_NAMES[EXPERIMENT], *TABLES[EXPERIMENT], *FIGURE_NAMES[REDUCTIONS], *TABLES[REDUCTIONS]}
    names |= {*FIGURE_NAMES[BENCHMARKS], *TABLES[BENCHMARKS], *FIGURE_NAMES[PROBE]}
    assert {path.stem for path in CAPTIONS.glob("*.rst")} == {*names, "workflow"}


def test_asking_one_benchmark_more_answers_only_that(finished):
    jobs = changed(finished, lambda s: s["benchmarks"]["suites"]["needle"].update(lengths=[512, 600]))
    assert jobs.keys() == {"prompts", "answer", "answer_reduced", "score", "score_reduced", "run_figures", "all"}
    assert jobs["prompts"] == ["suite=needle"]


def changed(finished: Path, change) -> dict[str, list[str]]:
    settings = toy_settings()
    change(settings)
    (finished / "toy.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return planned(snakemake(finished, "--dry-run", "--config", "experiment=toy.yaml"))


def test_editing_one_variant_reruns_only_what_depends_on_it(finished):
    jobs = changed(finished, lambda s: s["variants"]["middle"].update(placement="top"))
    again = {"plan", "profile", "convert", "extend", "run_figures", "all"}
    again |= {"answer", "score", "answer_reduced", "score_reduced"}
    assert jobs.keys() == again
    assert jobs["convert"] == jobs["extend"] == jobs["answer"] == jobs["score"] == ["variant=middle"]


def test_editing_the_evaluation_trains_nothing(finished):
    jobs = changed(finished, lambda s: s["benchmarks"]["suites"]["recall"].update(samples=3))  # and learns no gates
    assert jobs.keys() == {"prompts", "answer", "score", "answer_reduced", "score_reduced", "run_figures", "all"}
    one = {"default": {}, "another": {"processes": 2, "sequence_parallel": 2, "recompute": True}}
    assert changed(finished, lambda s: s.update(setups=one, setup="another")) == {}
    assert changed(finished, lambda s: s.update(cluster={"gpu": "h200", "max_runtime": 60})) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["select=full,nonsense"], "allowed are default, all, or names with full among them: full, longgen-sink"),
        (["experiment=nowhere.yaml"], "nowhere.yaml does not exist"),
        (["experment=x"], "--config experment=...: allowed are experiment=PATH, select=NAMES and setup=NAME"),
    ],
)
def test_bad_input_stops_before_any_job(clone, words, message):
    output = snakemake(clone, "--dry-run", "--config", *words, check=False)
    assert message in output
    assert "Job stats" not in output
