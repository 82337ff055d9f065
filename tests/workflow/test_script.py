"""A run as a shell script: in order, going on where it was, within a time, and what is temporary."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from longgen.errors import TO_BE_CONTINUED, ConfigError
from longgen.workflow import Job, workflow_jobs
from longgen.workflow.script import shell_script
from tests.commands import longgen
from tests.experiments import experiment_file, tiny_settings
from tests.planned import planned_jobs


def job(name: str, command: str, outputs: list[str], needs: str = "", **flags: list[str]) -> Job:
    flags = {"touched": [], "temporary": []} | flags
    return Job(
        identity=f"id-{name}",
        rule=name,
        wildcards={},
        command=f"{command}; echo {name} >> ran 2> >(tee log >&2)",
        outputs=outputs,
        needs=[f"id-{need}" for need in needs.split()],
        **flags,
    )


TEXT = job("text", "echo text > out/text", ["out/text"])
CONVERTED = job("converted", "cat out/text > tmp/converted", ["tmp/converted"], "text", temporary=["tmp/converted"])
MODEL = job("model", "cat tmp/converted > models/model", ["models/model"], "text converted")
ASKED = job("asked", "cat models/model > answer", ["answer", "answers/done"], "model", touched=["answers/done"])
JOBS = [TEXT, CONVERTED, MODEL, ASKED]


def run(folder: Path, jobs: list[Job], *words: str) -> tuple[int, list[str], str]:
    """Exit code, which commands ran to their end, and what was said."""
    (folder / "run.sh").write_text(shell_script(jobs, "toy", "marks"))
    (folder / "ran").write_text("")
    done = subprocess.run(["bash", "run.sh", *words], cwd=folder, capture_output=True, text=True)
    return done.returncode, (folder / "ran").read_text().split(), done.stderr


def test_each_runs_once_after_what_it_needs_and_what_is_temporary_goes(tmp_path):
    assert run(tmp_path, JOBS) == (0, ["text", "converted", "model", "asked"], "== text\n== model\n== asked\n")
    assert (tmp_path / "answer").read_text() == "text\n"
    assert (tmp_path / "answers/done").exists()
    assert not (tmp_path / "tmp/converted").exists()
    assert run(tmp_path, JOBS)[1] == []


def test_what_changed_or_is_gone_is_made_again(tmp_path):
    run(tmp_path, JOBS)
    (tmp_path / "models/model").unlink()
    assert run(tmp_path, JOBS)[1] == ["converted", "model"], "what is temporary is made for what needs it"
    changed = [*JOBS[:3], replace(ASKED, identity="id-other")]
    assert run(tmp_path, changed)[1] == ["asked"]
    (tmp_path / "answers/done").unlink()
    assert run(tmp_path, changed)[1] == ["asked"]
    assert run(tmp_path, JOBS)[1] == ["asked"], "as it was at first, but what is there is not of it"
    late = (tmp_path / "models/model").stat().st_mtime + 60
    os.utime(tmp_path / "models/model", (late, late))  # another one's since
    assert run(tmp_path, JOBS)[1] == ["converted", "model"]


def test_an_error_ends_it_with_its_exit_code_and_is_no_mark(tmp_path):
    bad = replace(MODEL, command="cat nowhere | cat > models/model; echo model >> ran")
    code, ran, said = run(tmp_path, [TEXT, CONVERTED, bad, ASKED])
    assert (code, ran) == (1, ["text", "converted"])
    assert said.endswith("exit code 1 of: model\n")
    assert run(tmp_path, JOBS)[:2] == (0, ["converted", "model", "asked"])


STOPS = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGUSR1, lambda *_: (Path("told").touch(), sys.exit(75)))
Path("began").touch()
while not Path("told").exists():
    time.sleep(0.01)
"""


def test_when_its_time_is_up_a_training_is_told_and_the_same_command_goes_on(tmp_path):
    """The clock is a stand-in for `timeout`: it sends the signal when the training has begun."""
    (tmp_path / "train.py").write_text(STOPS)
    (tmp_path / "timeout").write_text(
        "#!/usr/bin/env bash\n"
        'echo "$@" > limited; shift 3\n'
        'set -m; "$@" & child=$!\n'
        "until [ -e began ]; do sleep 0.01; done\n"
        "kill -USR1 -- -$child; wait $child; exit 124\n"
    )
    (tmp_path / "timeout").chmod(0o755)
    training = replace(MODEL, command=f"{sys.executable} train.py; cat tmp/converted > models/model")
    jobs = [TEXT, CONVERTED, training, ASKED]
    (tmp_path / "marks").mkdir()
    run(tmp_path, [TEXT])
    (tmp_path / "run.sh").write_text(shell_script(jobs, "toy", "marks"))
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    stopped = subprocess.run(["bash", "run.sh", "9"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert stopped.returncode == TO_BE_CONTINUED
    assert "time is up in: model; the same command goes on" in stopped.stderr
    assert (tmp_path / "told").exists()
    assert "--signal=USR1 --kill-after=120 " in (tmp_path / "limited").read_text()
    assert not (tmp_path / "answer").exists()
    assert run(tmp_path, JOBS)[:2] == (0, ["converted", "model", "asked"])


def test_what_is_killed_before_its_time_is_up_is_an_error(tmp_path):
    killed = replace(TEXT, command="kill -KILL $$")
    code, ran, said = run(tmp_path, [killed], "5")
    assert (code, ran) == (137, [])
    assert said.endswith("exit code 137 of: text\n")


def test_the_time_limit_is_that_of_timeout(tmp_path):
    assert run(tmp_path, JOBS, "5")[:2] == (0, ["text", "converted", "model", "asked"])
    asleep = replace(TEXT, command="sleep 600")
    (tmp_path / "run.sh").write_text(shell_script([replace(asleep, identity="id-asleep")], "toy", "marks"))
    short = (tmp_path / "run.sh").read_text().replace("left=$((60 * minutes - SECONDS))", "left=1")
    (tmp_path / "run.sh").write_text(short)
    done = subprocess.run(["bash", "run.sh", "5"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == TO_BE_CONTINUED
    assert done.stderr.endswith("time is up in: text; the same command goes on\n")


@pytest.mark.parametrize("minutes", ["0", "-1", "1.5", "x"])
def test_minutes_are_whole_numbers(tmp_path, minutes):
    code, ran, said = run(tmp_path, JOBS, minutes)
    assert (code, ran) == (2, [])
    assert f"MINUTES is '{minutes}': allowed are whole numbers from 1" in said


# ---------------------------------------------------------------- Snakemake's jobs
@pytest.mark.slow
def test_jobs_are_fingerprinted_by_what_determines_them(tmp_path, monkeypatch):
    smoke = {job.name: job for job in planned_jobs("config/smoke.yaml")}
    assert len({job.identity for job in smoke.values()}) == len(smoke)
    places = {identity: place for place, identity in enumerate(job.identity for job in smoke.values())}
    assert all(places[need] < places[job.identity] for job in smoke.values() for need in job.needs)
    by_rule = {job.identity: job.rule for job in smoke.values()}
    assert {by_rule[need] for need in smoke["extend variant=full"].needs} == {"rows", "convert"}
    assert smoke["convert variant=full"].temporary == ["artifacts/smoke/converted/full"]
    # as in the workflow: another setting changes what depends on it, processors change nothing
    monkeypatch.chdir(Path(__file__).parents[2])
    settings = tiny_settings()
    first = {job.name: job for job in workflow_jobs(experiment_file(tmp_path, settings))}
    settings["variants"]["middle"]["placement"] = "top"
    settings["benchmarks"]["suites"]["recall"]["samples"] += 1
    second = {job.name: job for job in workflow_jobs(experiment_file(tmp_path, settings), threads={"base": 3})}
    same = {name for name in first if first[name].identity == second[name].identity}
    assert same == {
        "corpus",
        "rows stage=base",
        "base",
        "rows stage=extension",
        "convert variant=full",
        "extend variant=full",
    }
    assert " --threads 1 " in first["base"].command and " --threads 3" in second["base"].command


@pytest.mark.slow
def test_the_command_prints_a_script_that_bash_can_read(monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parents[2])
    script = longgen("commands", "config/mini.yaml", "--no-figures")
    assert "longgen train" not in script and "longgen figures" not in script
    assert script.count("python -m longgen.training.launch") == 5
    assert " 2> >(tee" not in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["config/mini.yaml", "--select", "nonsense"], "--select is 'nonsense': allowed are default, all, or names"),
        (["config/mini.yaml", "--setup", "x"], "--setup is 'x': allowed is"),
        (["nowhere.yaml"], "nowhere.yaml does not exist"),
    ],
)
def test_bad_input_is_named(words, message, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(ConfigError, match=message):
        longgen("commands", *words)


@pytest.mark.slow
def test_elsewhere_than_in_a_clone_it_is_refused(tmp_path, monkeypatch):
    config = experiment_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no Snakefile in .*: allowed is a clone of the project"):
        workflow_jobs(config)
    (tmp_path / "Snakefile").write_text("rule broken:\n    input: nothing\n")
    with pytest.raises(ConfigError, match=r"tiny\.yaml: Snakemake cannot plan this run: .*nothing"):
        workflow_jobs(config)
