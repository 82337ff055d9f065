"""A signal ends training after a step, with a checkpoint; what goes on from there ends as a run left alone."""

import json
import math
import os
import signal
import sys
import threading
from contextlib import redirect_stderr

import pytest

import longgen.cli
from longgen.config import SetupSettings
from longgen.errors import TrainingStoppedError
from longgen.training.loop import StopRequest
from longgen.training.parallel.processes import Processes, join_processes, leave_processes
from tests.experiments import experiment_file, prepare_base, tiny_settings
from tests.processes import finished, ranks, started
from tests.training.moments import signalled_in
from tests.training.test_kills import outcome

STEPS = 36


def longgen_train(folder, name: str) -> None:
    """`longgen train`, with its exit code."""
    places = {"rows": "rows", "tokenizer": "corpus/tokenizer", "output": name, "result": f"{name}.json"}
    places |= {"checkpoint": f"{name}-steps", "metrics": f"{name}-metrics"}
    options = [word for key, place in places.items() for word in (f"--{key}", str(folder / place))]
    sys.argv = ["longgen", "train", str(folder / "tiny.yaml"), "--stage", "base", "--threads", "1", *options]
    with (folder / f"{name}.log").open("w") as log, redirect_stderr(log):
        longgen.cli.main()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopping")
    settings = tiny_settings()
    phase = {"length": 64, "batch_size": 2, "steps": STEPS // 2, "learning_rate": 3e-3}
    phase["mixture"] = {"text": 0.5, "pairs": 0.5}
    settings["base"] = {"phases": [phase, phase], "checkpoint_every": 1000}  # none that a signal did not ask for
    prepare_base(experiment_file(folder, settings))
    finished(longgen_train, folder, "alone")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 143)])
def test_a_run_that_is_asked_to_stop_goes_on_later_as_if_it_had_not_been(folder, number, code):
    name = number.name
    for step in (3, 17, 26):  # within a record of ten steps; and in both phases
        process = started(signalled_in, step, number, longgen_train, folder, name)
        process.join()
        assert process.exitcode == code
        (checkpoint,) = (folder / f"{name}-steps").iterdir()
        assert json.loads((checkpoint / "progress.json").read_text())["step"] == step
        told = (folder / f"{name}.log").read_text()
        assert f"longgen: error: stopped by {name} after step {step} of {STEPS}: the checkpoint in " in told
        assert "Traceback" not in told
        assert not (folder / f"{name}.json").exists()
    finished(longgen_train, folder, name)
    assert outcome(folder, name) == outcome(folder, "alone")


def agreeing(rank: int, report) -> None:
    processes = join_processes(SetupSettings(processes=2), sharded=True)
    with StopRequest() as stop:
        seen = [stop.agreed_signal(processes)]
        if rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        seen.append(stop.agreed_signal(processes))
    leave_processes()
    report(seen)


def test_one_process_that_is_signalled_stops_all_of_them():
    assert ranks(agreeing, 2) == [[0, signal.SIGUSR1]] * 2


def test_handlers_are_put_back_and_other_threads_have_none():
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == before
    seen = []
    thread = threading.Thread(target=lambda: seen.append(StopRequest().__enter__().number))
    thread.start()
    thread.join()
    assert seen == [0]


def test_a_deadline_that_has_passed_is_as_sigusr1_and_a_pre_emption_is_more():
    with StopRequest(deadline=math.inf) as stop:
        assert stop.agreed_signal(Processes()) == 0
        stop.deadline = -math.inf
        assert stop.agreed_signal(Processes()) == signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.agreed_signal(Processes()) == signal.SIGTERM


def stop_and_be_ended(report_to) -> None:
    with pytest.raises(TrainingStoppedError), StopRequest():
        os.kill(os.getpid(), signal.SIGUSR1)
        raise TrainingStoppedError(signal.SIGUSR1, 1, 2, report_to)
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(75)


def test_what_has_stopped_keeps_its_exit_code_though_slurm_ends_it_for_another_process_that_was_quicker(tmp_path):
    process = started(stop_and_be_ended, tmp_path)
    process.join()
    assert process.exitcode == 75
