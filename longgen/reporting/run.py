"""A run as reporting sees it: its results files as data frames, and its plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from longgen.errors import ArtifactError
from longgen.layout import Layout
from longgen.pattern import SparsePattern
from longgen.records.kinds import KINDS, OF_VARIANTS
from longgen.reporting import BENCHMARKS, EXPERIMENT
from longgen.reporting.frames import check_columns
from longgen.reporting.views import with_views
from longgen.results import PUBLISHED, RESULTS, Result, load_results, run_folder


@dataclass(frozen=True)
class PlannedVariant:
    """A variant as plan.json describes it."""

    name: str
    layout: Layout
    pattern: SparsePattern
    pattern_name: str
    placement: str
    trained: bool  # False: the checkpoint as it is, with sparse layers


@dataclass(frozen=True)
class Plan:
    """plan.json: the shape of the experiment, and the predictions for it.

    Attributes:
        model: shape of the model; ``name`` and ``num_layers`` at least.
        base_length: context length of the base model, in tokens.
        trained_length: context length after the extension, in tokens.
        variants: by name, in the order of the configuration.
        default_variants: those that a run without the whole ablation makes.
        predictions: one row per variant and length; never shown as measured.
    """

    model: dict[str, Any]
    base_length: int
    trained_length: int
    variants: dict[str, PlannedVariant]
    default_variants: tuple[str, ...]
    predictions: pd.DataFrame

    @property
    def marked_lengths(self) -> dict[str, int]:
        """What figures mark on axes of lengths: ``base`` and ``trained``; of what nothing extended, the base alone."""
        marks = {"base": self.base_length, "trained": self.trained_length}
        return marks if self.trained_length > self.base_length else {"base": self.base_length}


@dataclass(frozen=True)
class Run:
    """The results of one run, read once.

    Attributes:
        name: as given on the command line: ``smoke`` or ``published/smoke-cpu``.
        folder: where the results files are.
        results: all of them.
    """

    name: str
    folder: Path
    results: list[Result]

    def has(self, kind: str) -> bool:
        """Whether there is a results file of ``kind`` with at least one record."""
        return any(result.records for result in self._of_kind(kind))

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """What it has results of: an experiment, benchmarks, kernels, ... A run without any is an experiment to be."""
        return tuple(sorted({kind.subject for name, kind in KINDS.items() if self.has(name)})) or (EXPERIMENT,)

    @property
    def is_experiment(self) -> bool:
        """Whether it has, or may have, a plan, variants and a part in the paper's claims."""
        return EXPERIMENT in self.subjects

    def missing(self, kind: str) -> ArtifactError:
        """The error for an absent ``kind``: names the file and the command that makes it."""
        path = self.folder / KINDS[kind].files
        subject = KINDS[kind].subject
        if (
            not self.is_experiment
            and subject in OF_VARIANTS
            and (subject == EXPERIMENT or subject not in self.subjects)
        ):
            subjects = " and ".join(self.subjects)
            return ArtifactError(f"{path} is missing: {self.name} is no experiment, it measured {subjects} alone")
        if self.name.startswith(f"{PUBLISHED.name}/"):
            command = f"longgen publish RUN --as {self.name.partition('/')[2]} --force"
        else:
            by_workflow = self.has("plan") and KINDS[kind].subject == BENCHMARKS
            command = (KINDS["plan"] if by_workflow else KINDS[kind]).made_by.format(run=self.name)
        return ArtifactError(f"{path} is missing: `{command}` makes it")

    def frame(self, kind: str) -> pd.DataFrame:
        """All records of ``kind``; those of variants in the order of `variants`, with a ``variant`` column.

        Raises:
            ArtifactError: no such results file, or its records break the contract (`check_columns`).
        """
        if not self.has(kind):
            raise self.missing(kind)
        frame = self._frame(kind)
        if KINDS[kind].subject not in OF_VARIANTS:
            return frame
        order = {name: index for index, name in enumerate(self.variants)}
        rank = frame["variant"].map(lambda name: order.get(name, len(order)))
        return frame.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank").reset_index(drop=True)

    @cached_property
    def plan(self) -> Plan:
        """plan.json. Raises ArtifactError if it is missing or incomplete."""
        if not self.has("plan"):
            raise self.missing("plan")
        settings = self._of_kind("plan")[0].settings
        try:
            variants = {
                name: PlannedVariant(
                    name,
                    Layout.from_kinds(value["layout"]),
                    SparsePattern(**value["pattern"]),
                    value["pattern_name"],
                    value["placement"],
                    value.get("trained", True),  # plans of earlier versions do not say
                )
                for name, value in settings["variants"].items()
            }
            return Plan(
                model=settings["model"],
                base_length=settings["base_length"],
                trained_length=settings["trained_length"],
                variants=variants,
                default_variants=tuple(settings["default_variants"]),
                predictions=self._frame("plan"),
            )
        except KeyError as error:
            raise ArtifactError(f"{self.folder / 'plan.json'}: settings lack {error}") from None

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Names of all variants that the plan or any result mentions: the plan's order, then alphabetical."""
        plan_variants = list(self.plan.variants) if self.has("plan") else ["full"]
        result_variants = {
            name
            for kind, contract in KINDS.items()
            if contract.subject in OF_VARIANTS
            for result in self._of_kind(kind)
            for name in [result.variant, *(record.get("variant") for record in result.records)]
            if name is not None
        }
        return (*plan_variants, *sorted(result_variants - set(plan_variants) - {"base"}))

    @property
    def model_name(self) -> str:
        """Name of the model, from the plan."""
        return str(self.plan.model["name"])

    def device(self, *kinds: str) -> str:
        """Name of the device(s) that measured these kinds; empty if none did."""
        names = {
            str((result.provenance.get("device") or {}).get("name", "unknown device"))
            for kind in kinds
            for result in self._of_kind(kind)
        }
        return ", ".join(sorted(names))

    def on_gpu(self, kind: str) -> bool:
        """Whether a GPU measured some of this kind."""
        return any((result.provenance.get("device") or {}).get("kind") == "cuda" for result in self._of_kind(kind))

    def settings(self, kind: str) -> dict[str, Any]:
        """What was set when ``kind`` was measured, in its first file; empty if there is none."""
        return next((result.settings for result in self._of_kind(kind)), {})

    def days(self, *kinds: str) -> str:
        """Day(s) on which these kinds were measured, such as 2025-01-31; empty if none was."""
        dates = {str(result.provenance.get("date", ""))[:10] for kind in kinds for result in self._of_kind(kind)}
        return ", ".join(sorted(dates - {""}))

    def _of_kind(self, kind: str) -> list[Result]:
        return [result for result in self.results if result.kind == kind]

    def _frame(self, kind: str) -> pd.DataFrame:
        frames = []
        for result in self._of_kind(kind):
            rows = pd.DataFrame(result.records)
            if "variant" not in rows and KINDS[kind].subject in OF_VARIANTS:
                rows.insert(0, "variant", result.variant or "base")
            frames.append(rows)
        frame = pd.concat([rows for rows in frames if len(rows)], ignore_index=True)
        return check_columns(frame, KINDS[kind], self.folder / KINDS[kind].files)


def open_run(name: str, results: Path | str = RESULTS) -> Run:
    """Read all results of the run called ``name``.

    Args:
        name: ``smoke`` for ``<results>/smoke``, or ``published/smoke-cpu``.
        results: the folder that holds the runs.

    Raises:
        ConfigError: the name is not usable.
        ArtifactError: there are no results of that name, or one cannot be read.
    """
    folder = Path(results) / run_folder(name).relative_to(RESULTS)
    return Run(name, folder, with_views(load_results(folder), folder))


def published_runs(results: Path | str = RESULTS) -> list[str]:
    """Names (``published/<name>``) of all published runs below ``results``, sorted."""
    folder = Path(results) / PUBLISHED.name
    return sorted(f"{PUBLISHED.name}/{path.name}" for path in folder.glob("[!.]*") if path.is_dir())
