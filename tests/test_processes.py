"""The helper that starts process groups for tests: it forgives a signal once, and nothing else."""

import os
import signal
from pathlib import Path

import pytest
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from tests.processes import ranks


def dies_until(rank: int, report, folder: Path, times: int) -> None:
    """Report the rank; but first, so many times, die of a signal."""
    before = len(list(folder.iterdir()))
    if before < times:
        (folder / str(before)).touch()
        os.kill(os.getpid(), signal.SIGABRT)
    report(rank)


def fails(rank: int, report, folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    raise ValueError("wrong")


def test_what_a_signal_ended_once_starts_once_more(tmp_path):
    with pytest.warns(UserWarning, match="dies_until with 1 processes: .* SIGABRT; once more"):
        assert ranks(dies_until, 1, tmp_path, 1) == [0]


def test_what_a_signal_ends_again_fails(tmp_path):
    with pytest.warns(UserWarning, match="once more"), pytest.raises(ProcessExitedException, match="SIGABRT"):
        ranks(dies_until, 1, tmp_path, 2)


def test_what_fails_does_not_start_again(tmp_path):
    with pytest.raises(ProcessRaisedException, match="ValueError: wrong"):
        ranks(fails, 1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
