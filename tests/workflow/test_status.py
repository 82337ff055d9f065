"""`longgen status`: what is done, running, failed, stopped and due, and how long the rest is expected to take."""

import json
import os
import platform
import subprocess
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.cli import status as command
from longgen.cluster.costs import run_seconds
from longgen.errors import TO_BE_CONTINUED, ConfigError
from longgen.workflow import Job
from longgen.workflow.lock import HOLDER, LOCKS, Holder, noted_holder
from longgen.workflow.status import MESSAGES, State, job_statuses, last_lines
from tests.experiments import experiment_file, tiny_settings


def job(name: str, is_due: bool = True, needs: str = "", threads: int = 1, **wildcards: str) -> Job:
    return Job(
        identity=f"id-{name}",
        rule=name.partition("-")[0],
        wildcards=wildcards,
        command=f"sleep 60 && echo {name}",
        outputs=[f"out/{name}"],
        touched=[],
        temporary=[],
        needs=[f"id-{need}" for need in needs.split()],
        logs=[f"logs/{name}.log"],
        threads=threads,
        is_due=is_due,
    )


def own_process(began: float = 0.0) -> Holder:
    """This process, which started what the tests start."""
    return Holder(platform.node(), os.getpid(), began or psutil.Process().create_time(), True)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("out", "logs"):
        (tmp_path / name).mkdir()
    return tmp_path


FAILED = """\
Select jobs to execute...
Error in rule evaluate:
    jobid: 7
    output: out/evaluate-full
    log: logs/evaluate-full.log (check log file(s) for error details)
    shell:
        longgen evaluate
"""


def test_each_job_is_done_running_failed_stopped_or_to_do(folder):
    for name in ("base", "extend-full", "evaluate-full"):
        (folder / "logs" / f"{name}.log").write_text("step 1\nValueError: no\n")
    (folder / MESSAGES).mkdir(parents=True)
    (folder / MESSAGES / "2025-01-01T000000.1.snakemake.log").write_text(FAILED.replace("evaluate", "extend"))
    (folder / MESSAGES / "2025-01-02T000000.1.snakemake.log").write_text(FAILED)
    (folder / MESSAGES / "2025-01-03T000000.1.snakemake.log").write_text("Building DAG of jobs...")
    (folder / "out" / "plan").touch()
    (folder / "logs" / "plan.log").write_text("done")
    os.utime(folder / "logs" / "plan.log", (0, 0))
    names = ["corpus", "base", "extend-full", "evaluate-full", "profile", "plan"]
    jobs = [job(name, is_due=name != "corpus") for name in names]
    working = subprocess.Popen(["bash", "-c", f"set -e; {jobs[1].command} 2> >(tee log >&2)"])
    try:
        found = job_statuses(jobs, own_process())
    finally:
        working.kill()
        working.wait()
    states = ["done", "running", "stopped", "failed", "to do", "to do"]
    assert [each.state for each in found] == states, "an earlier run's failure is none; what is due again is to do"
    assert (found[1].process, found[1].log) == (working.pid, Path("logs/base.log"))
    assert found[1].seconds < 60
    assert [each.state for each in job_statuses(jobs, own_process(began=1.0))][1] == State.STOPPED, "a killed run's"
    assert [each.state for each in job_statuses(jobs, None)][1] == State.STOPPED


def test_the_end_of_a_log_is_what_a_screen_would_show(folder):
    log = folder / "log"
    log.write_bytes(b"first\n" + b"x" * 5000 + b"\n\x1b[31mred\x1b[0m\n 10%\r 20%\r 30%\n\nlast \xff\n")
    assert last_lines(log, 3) == ["red", " 30%", "last \ufffd"]
    assert "first" not in last_lines(log, 100)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": "here"}', "null"])
def test_half_a_note_of_the_holder_is_none(text, folder):
    (folder / HOLDER.parent).mkdir()
    (folder / HOLDER).write_text(text)
    assert noted_holder() is None


def test_folders_in_disorder_are_no_error(folder):
    (folder / HOLDER).mkdir(parents=True)
    assert noted_holder() is None
    (folder / MESSAGES / "1.snakemake.log").mkdir(parents=True)
    (folder / "logs" / "base.log").mkdir()
    assert [each.state for each in job_statuses([job("base")], None)] == [State.WAITING]
    assert last_lines(folder / "logs" / "base.log", 3) == ["cannot be read: Is a directory"]


@pytest.mark.parametrize(("cores", "seconds"), [(1, 50), (2, 40), (8, 40)])
def test_jobs_wait_for_what_they_need_and_for_processors(cores, seconds):
    jobs = [job("a"), job("b"), job("c", needs="a b"), job("d", needs="c gone", threads=2)]
    assert run_seconds(jobs, {"id-a": 10, "id-b": 20, "id-c": 10, "id-d": 10}, cores) == seconds
    assert run_seconds([], {}, cores) == 0


# ---------------------------------------------------------------- the command
@pytest.fixture
def asked(folder, monkeypatch):
    """Calls the command on the jobs given, which Snakemake need not plan; returns exit code and output."""
    config = experiment_file(folder, tiny_settings())
    monkeypatch.setattr("longgen.tables.terminal_width", lambda: 80)
    monkeypatch.setattr(command, "terminal_width", lambda: 80)

    def ask(jobs: list[Job], *words: str) -> tuple[int, str]:
        monkeypatch.setattr(command, "workflow_jobs", lambda *arguments, **named: jobs)
        done = CliRunner().invoke(app, ["status", str(config), *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return ask


def hold(folder: Path, holder: Holder) -> None:
    (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    (folder / LOCKS / "0.output.lock").touch()
    (folder / HOLDER).write_text(json.dumps(vars(holder)))


def test_all_done_some_left_and_some_failed_have_exit_codes_of_their_own(asked, folder):
    code, text = asked([job("plan", is_due=False)])
    assert (code, "would do nothing: all is there" in text) == (0, True)
    code, text = asked(
        [job("plan", is_due=False), job("extend-full", variant="full"), job("extend-sink", variant="sink")]
    )
    assert code == TO_BE_CONTINUED
    assert "1 of 3 jobs done, 2 to do" in text
    assert "to do: full, sink" in text
    assert "would do 2 jobs." in text
    (folder / "logs" / "extend-full.log").write_text("\n".join(f"line {number}" for number in range(9)))
    (folder / MESSAGES).mkdir(parents=True)
    (folder / MESSAGES / "1.snakemake.log").write_text(FAILED.replace("evaluate", "extend"))
    code, text = asked([job("extend-full", variant="full")])
    assert code == command.SOME_FAILED
    assert "failed: extend variant=full (log logs/extend-full.log)" in text
    assert [line.strip() for line in text.splitlines() if line.startswith("    line")] == [
        f"line {n}" for n in range(4, 9)
    ]


def test_who_holds_the_folder_is_said(asked, folder):
    hold(folder, own_process())
    assert f"The run of process {os.getpid()} works in this folder" in asked([job("plan")])[1]
    hold(folder, own_process(began=1.0))
    text = asked([job("plan")])[1]
    assert "was killed: the next one removes the lock" in text
    assert (folder / LOCKS).exists(), "it only looks"
    hold(folder, Holder("elsewhere", 1, 1.0, True))
    assert "A run on elsewhere (process 1) holds this folder" in asked([job("plan")])[1]
    (folder / HOLDER).write_text("half")
    assert "snakemake --unlock" in asked([job("plan")])[1]


def test_lines_are_no_longer_than_the_terminal_and_json_holds_all(asked, folder):
    jobs = [job(f"extend-variant-{number}", variant=f"variant-{number}") for number in range(12)]
    (folder / "logs" / "extend-variant-3.log").write_text("word " * 100)
    code, text = asked(jobs)
    words = [line for line in text.splitlines() if str(folder) not in line]  # which may be longer itself
    assert max(map(len, words)) <= 80
    code, text = asked(jobs, "--json")
    data = json.loads(text)
    assert code == TO_BE_CONTINUED
    assert [each["state"] for each in data["jobs"]].count("stopped") == 1
    assert (data["locked"], data["process"]) == (False, None)


def test_expected_times_are_predicted_for_what_is_left(asked, monkeypatch):
    monkeypatch.setattr("longgen.profiling.device.processor_rates", lambda: (1e9, 1e9))
    jobs = [job("plan", is_due=False), job("base"), job("extend-middle", variant="middle", needs="base")]
    code, text = asked(jobs, "--time", "--cores", "2")
    assert code == TO_BE_CONTINUED
    assert "on 2 processors of this machine: predicted" in text
    data = json.loads(asked(jobs, "--time", "--json")[1])
    seconds = [each["expected_seconds"] for each in data["jobs"]]
    assert data["expected_seconds_left"] == pytest.approx(seconds[1] + seconds[2])
    assert seconds[1] > seconds[0] >= 0, "training takes longer than planning"


def test_what_cannot_be_looked_at_is_one_line(folder, monkeypatch):
    config = experiment_file(folder, tiny_settings())
    for words, message in (
        ((config, "--select", "nothing"), "--select is 'nothing'"),
        ((config,), "there is no Snakefile"),
        (("missing.yaml",), "missing.yaml"),
    ):
        error = CliRunner().invoke(app, ["status", *map(str, words)]).exception
        assert isinstance(error, ConfigError)
        assert message in str(error)
