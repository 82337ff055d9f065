"""Processes for tests, forked from one that has imported what they need: a fresh interpreter takes seconds to do so."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed.fsdp
import torch.multiprocessing

import longgen.cli
import longgen.training.stages  # for the processes, and transformers with it

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__])


def started(function: Callable[..., object], *arguments: Any) -> BaseProcess:
    """A process that computes ``function(*arguments)``, both of which can be pickled."""
    process = FORKSERVER.Process(target=_on_one_thread, args=(function, *arguments))
    process.start()
    return process


def finished(function: Callable[..., object], *arguments: Any) -> None:
    """Wait for a process that must end well."""
    process = started(function, *arguments)
    process.join()
    assert process.exitcode == 0


def signalled(moment: float, number: int, function: Callable[..., object], *arguments: Any) -> None:
    """For a process: compute ``function(*arguments)``; at its ``moment``-th call of a function, it is sent ``number``.

    The moment is counted and not timed: it is the same one however busy the machine is.
    """
    _count_calls(function, arguments, moment, number)


def calls_of(function: Callable[..., object], *arguments: Any) -> int:
    """How many functions are called in a process that computes ``function(*arguments)`` and must end well."""
    report = FORKSERVER.SimpleQueue()
    finished(_report_calls, report, function, *arguments)
    return report.get()


def _report_calls(report: Any, function: Callable[..., object], *arguments: Any) -> None:
    report.put(_count_calls(function, arguments))


def _count_calls(
    function: Callable[..., object], arguments: tuple[Any, ...], moment: float = math.inf, number: int = 0
) -> int:
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls >= moment:
            sys.setprofile(None)
            os.kill(os.getpid(), number)

    sys.setprofile(count)
    function(*arguments)
    sys.setprofile(None)
    return calls


def command(*words: object) -> None:
    """`longgen` with these words; ends the process."""
    longgen.cli.app([str(word) for word in words])


def ranks(function: Callable[..., object], world: int, *arguments: Any) -> list[Any]:
    """What ``world`` processes report that may join a process group.

    Each computes ``function(rank, report, *arguments)`` and calls ``report`` with what can be pickled. They start once
    more, with a warning, if a signal ended one of them: in some fifty runs of all tests glibc once found the heap of a
    process of gloo's damaged. What is wrong in our code does not go away the second time.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them failed; the others are ended.
        torch.multiprocessing.ProcessExitedException: a signal ended one of them, twice.
    """
    try:
        return _ranks(function, world, *arguments)
    except torch.multiprocessing.ProcessExitedException as error:
        if error.signal_name is None:
            raise
        warnings.warn(f"{function.__name__} with {world} processes: {error}; once more", stacklevel=2)
    return _ranks(function, world, *arguments)


def _ranks(function: Callable[..., object], world: int, *arguments: Any) -> list[Any]:
    # here, and not in the first of them: a port that was found free can be another one's by then
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    reports = FORKSERVER.SimpleQueue()
    given = (world, store.port, reports, function, arguments)
    torch.multiprocessing.start_processes(_as_rank, given, world, start_method="forkserver")
    found = []
    while not reports.empty():
        found.append(reports.get())
    return found


def _as_rank(
    rank: int, world: int, port: int, reports: Any, function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    _on_one_thread(function, rank, reports.put, *arguments)


def _on_one_thread(function: Callable[..., object], *arguments: Any) -> None:
    torch.set_num_threads(1)
    function(*arguments)
