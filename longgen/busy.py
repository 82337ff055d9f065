"""How busy the machine was with something else while times were taken, and when such times count as disturbed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from longgen.records.experiment import Busy

# A record is disturbed where one of these is exceeded (our choice): the share of the processors that the process may
# run on that other processes used, the share that the hypervisor gave to other machines, and the interquartile range
# of the rounds over their median.
MOST_OTHERS, MOST_STEAL, MOST_SPREAD = 0.10, 0.02, 0.20

SHORTEST = 0.5  # seconds: in less, ticks of 10 ms tell nothing
FEWEST_VALUES = 3  # of a spread
# Columns of `Watch.columns`, of every record of the rounds it watched.
WATCHED = ("load_before", "load_after", "others", "steal")
SIGN = "\u2021"  # a double dagger, beside what is disturbed
RULE = (
    f"{SIGN} Disturbed: meanwhile other processes used more than {100 * MOST_OTHERS:.0f} % of the processors, or more "
    f"than {100 * MOST_STEAL:.0f} % were stolen by other virtual machines, or the middle half of the rounds is spread "
    f"over more than {100 * MOST_SPREAD:.0f} % of their median."
)
_STAT = Path("/proc/stat")


class _Ticks(NamedTuple):
    """Seconds of the processors that this process may run on, since the machine started."""

    total: float
    busy: float
    stolen: float


class Watch:
    """Measures how busy the machine is while its ``with`` block runs; give it the rounds alone."""

    def __enter__(self) -> Watch:
        self._load, self._ticks = _load(), _ticks()
        self._own, self._started = _own_seconds(), time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds, own = time.monotonic() - self._started, _own_seconds() - self._own
        used = own / seconds if seconds else 0.0
        loads = [None if load is None else max(0.0, load - used) for load in (self._load, _load())]
        self._columns = dict(zip(WATCHED, [*loads, *_shares(self._ticks, _ticks(), own, seconds)], strict=True))

    def columns(self) -> dict[str, Any]:
        """Columns of records: ``load_before`` and ``load_after``, averages of a minute less the processors that this
        process used itself; ``others`` and ``steal``, shares of the processors that it may run on. None where the
        system does not tell, or the block was too short to tell.
        """
        return dict(self._columns)


def spread(values: Sequence[float]) -> float | None:
    """Interquartile range over the median; None of fewer than `FEWEST_VALUES`, or where the median is not above 0."""
    if len(values) < FEWEST_VALUES:
        return None
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float((high - low) / middle) if middle > 0 else None  # what is composed may come out below


def disturbances(others: float | None, steal: float | None, rounds: float | None) -> list[str]:
    """What of the rule is exceeded, in words; what was not recorded (None, NaN) exceeds nothing.

    Args:
        others: share of the processors.
        steal: share of the processors.
        rounds: `spread` of the values in question: times, or ratios within rounds.
    """
    limits = (
        (others, MOST_OTHERS, "other processes used {:.0%} of the processors"),
        (steal, MOST_STEAL, "other virtual machines stole {:.0%} of the processors"),
        (rounds, MOST_SPREAD, "rounds are spread over {:.0%}"),
    )
    return [words.format(value) for value, most, words in limits if value is not None and value > most]


def is_disturbed(others: float | None, steal: float | None, rounds: float | None) -> bool | None:
    """Whether `disturbances` finds any; None where nothing was recorded that could tell."""
    if all(value is None or math.isnan(value) for value in (others, steal, rounds)):
        return None
    return bool(disturbances(others, steal, rounds))


def warning(records: Sequence[Busy]) -> str | None:
    """What to tell who measured ``records``: how many are disturbed, and by what at most; None if none is."""
    disturbed = [
        (record, rounds)
        for record in records
        for rounds in (record.spread, record.speedup_spread)
        if is_disturbed(record.others, record.steal, rounds)
    ]
    if not disturbed:
        return None
    columns = zip(*((record.others, record.steal, rounds) for record, rounds in disturbed), strict=True)
    most = [max((value for value in column if value is not None), default=None) for column in columns]
    count = len({id(record) for record, _ in disturbed})
    return (
        f"{count} of {len(records)} measurements are disturbed (at most: {'; '.join(disturbances(*most))}). "
        "Run nothing else beside it and measure again: figures and tables mark them, and the claims ledger gives them "
        "no verdict"
    )


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _own_seconds() -> float:
    """Processor time of this process and of its children that ended."""
    return sum(os.times()[:4])


def _ticks() -> _Ticks | None:
    """None where the system has no such file, as outside Linux, or counts nothing in it, as in some containers."""
    try:
        allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in _STAT.read_text().splitlines()]
        hertz = os.sysconf("SC_CLK_TCK")
        # user nice system idle iowait irq softirq steal; guests are in the first two already
        rows = [[int(count) / hertz for count in line[1:9]] for line in lines if line and line[0] in allowed]
    except (AttributeError, OSError, ValueError):
        return None
    if not rows or any(len(row) < 8 for row in rows) or not sum(map(sum, rows)):
        return None
    user, nice, system, idle, wait, irq, softirq, steal = (sum(column) for column in zip(*rows, strict=True))
    busy = user + nice + system + irq + softirq
    return _Ticks(busy + idle + wait + steal, busy, steal)


def _shares(before: _Ticks | None, after: _Ticks | None, own: float, seconds: float) -> tuple[float | None, ...]:
    """Shares of the processors that others used and that were stolen."""
    if before is None or after is None or seconds < SHORTEST or after.total <= before.total:
        return None, None
    total = after.total - before.total
    others = max(0.0, after.busy - before.busy - own)
    return min(1.0, others / total), (after.stolen - before.stolen) / total
