"""Which runs are one configuration with several seeds: found by what their results files say was set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from longgen.records.kinds import KINDS
from longgen.reporting import EXPERIMENT, REDUCTIONS
from longgen.reporting.disturbed import disturbed_note, rule_lines
from longgen.reporting.run import Plan, Run

# Settings that say what was measured, or by which processes, and not how: (kind, section).
_FREE = {
    ("plan", "default_variants"),
    *(("training", section) for section in ("variant", "setup", "training_attention")),
    *((kind, "variants") for kind in ("speed", "memory")),
}
# Without these nothing is known of how a run was made.
_RECIPE = (("plan", "variants"), ("training", "extension"))


@dataclass(frozen=True)
class Group:
    """Runs of one configuration with a seed each.

    Attributes:
        name: that of the first run, without ``-seed-N``, and ``-seeds``.
        runs: two or more, by seed, ascending.
    """

    name: str
    runs: dict[int, Run]

    @property
    def plan(self) -> Plan:
        """The plan of all of them."""
        return next(iter(self.runs.values())).plan

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Those of any of them, in the plan's order."""
        return tuple(dict.fromkeys(name for run in self.runs.values() for name in run.variants))

    @property
    def seeds(self) -> str:
        """For readers: ``seeds 0, 1, 2``."""
        return f"seeds {', '.join(map(str, self.runs))}"

    @property
    def note(self) -> str:
        """Of whom a figure is, for its small print."""
        return f"{self.name}, {self.seeds} · {self.plan.model['num_layers']} layers · {self.device('retrieval')}"

    def device(self, *kinds: str) -> str:
        """Name of the device(s) that measured these kinds; empty if none did."""
        devices = dict.fromkeys(run.device(*kinds) for run in self.runs.values())
        return ", ".join(name for name in devices if name)

    def disturbed_lines(self) -> list[str]:
        """As lines of Markdown, which runs have disturbed speed-ups, which do not count; nothing if none has."""
        notes = {run.name: disturbed_note(run, "speed") for run in self.runs.values()}
        run_notes = [f"{name} ({note})" for name, note in notes.items() if note]
        return (
            ["", f"Left out are disturbed speed-ups of {', '.join(run_notes)}.", *rule_lines(True)] if run_notes else []
        )


def find_groups(runs: Sequence[Run]) -> list[Group]:
    """The groups among ``runs``, each run in one at most.

    A run joins the first that has no run of its seed and that it agrees with in all (`what_differs`); of several runs
    with the same settings and seed, only the first is in a group with the others' seeds.
    """
    rest = [run for run in runs if not _exclusion(run)]
    groups: dict[str, Group] = {}
    while rest:
        first, *others = rest
        members = {_seed(first): first}
        rest = []
        for run in others:
            belongs = _seed(run) not in members and all(_difference(run, each) is None for each in members.values())
            if belongs:
                members[_seed(run)] = run
            else:
                rest.append(run)
        if len(members) > 1:
            name = f"{re.sub(r'-seed-[0-9]+$', '', first.name)}-seeds"
            name = f"{first.name}-seeds" if name in groups else name
            groups[name] = Group(name, dict(sorted(members.items())))
    return list(groups.values())


def what_differs(first: Run, second: Run) -> str | None:
    """Why two runs are not of one group, in words; None if they are.

    What is set for a kind of result is compared where both runs have results of that kind, so that they may hold
    different variants; the plan and the recipe of the extension both must have. Left out are names, the set-up of
    processes, and which methods of KV reduction were run.
    """
    reason = _exclusion(first) or _exclusion(second)
    if reason:
        return reason
    if _seed(first) == _seed(second):
        return f"{first.name} and {second.name} have the same seed, {_seed(first)}"
    return _difference(first, second)


def _exclusion(run: Run) -> str | None:
    """Why a run can be in no group."""
    has = _settings(run)
    for kind, section in _RECIPE:
        if (kind, section) not in has:
            return f"{run.name} has no {KINDS[kind].files} with {section} in its settings"
    seeds = sorted({str(result.provenance.get("seed")) for result in run.results if _counts(result.kind)})
    return None if len(seeds) == 1 and seeds[0].isdigit() else f"{run.name} has files of seeds {', '.join(seeds)}"


def _seed(run: Run) -> int:
    return next(int(result.provenance["seed"]) for result in run.results if result.kind == "plan")


def _difference(first: Run, second: Run) -> str | None:
    first_settings, second_settings = _settings(first), _settings(second)
    for key in first_settings.keys() & second_settings.keys():
        if first_settings[key] != second_settings[key]:
            return f"{first.name} and {second.name} differ in {' '.join(filter(None, key))}"
    return None


def _counts(kind: str) -> bool:
    return kind in KINDS and (KINDS[kind].subject in (EXPERIMENT, REDUCTIONS) or kind == "perplexity")


def _settings(run: Run) -> dict[tuple[str, ...], set[str]]:
    """All that was set, by kind and section; a set, as the files of a kind need not agree."""
    settings: dict[tuple[str, ...], set[str]] = {}
    for result in run.results:
        if _counts(result.kind):
            for key, value in _sections(result.kind, result.settings, result.variant):
                settings.setdefault(key, set()).add(json.dumps(value, sort_keys=True))
            if result.kind == "corpus":  # the text itself: the same source may have another on another machine
                text = sorted(f"{record['split']} {record['sha256']}" for record in result.records)
                settings.setdefault(("corpus", "sha256"), set()).add(json.dumps(text))
    return settings


def _sections(kind: str, settings: dict[str, Any], variant: str | None) -> Iterator[tuple[tuple[str, ...], Any]]:
    for section, value in settings.items():
        if (kind, section) == ("training", "longgen"):
            yield (kind, section, variant or ""), [value, settings.get("training_attention")]
        elif (kind, section) == ("plan", "model"):
            yield (kind, section), {name: each for name, each in value.items() if name != "name"}
        elif section == "answers":
            for each in value:
                yield (kind, section, each.get("kv_reduction", {}).get("method", "")), _how(each)
        elif (kind, section) not in _FREE:
            yield (kind, section), value


def _how(answered_by: dict[str, Any]) -> dict[str, Any]:
    """What decides answers besides the weights, which are each seed's own, and which method and budget it is."""
    how = {name: value for name, value in answered_by.items() if name not in ("model", "kv_reduction")}
    return how | {"learned": answered_by.get("kv_reduction", {}).get("learned")}
