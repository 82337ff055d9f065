"""Promote a run's results to published ones: the cache from which everybody can draw the figures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError, ConfigError
from longgen.files import atomic_directory
from longgen.provenance import provenance
from longgen.results import PUBLISHED, RESULTS, Result, check_run_name, load_result, run_folder, save_result

RECORD_FILE = "publication.json"


def publish_run(run: str, name: str, results: Path | str = RESULTS, force: bool = False) -> list[str]:
    """Copy ``<results>/<run>`` to ``<results>/published/<name>`` in one step, with a record of where each file is from.

    Only results files are copied; publication.json (kind ``publication``) lists them with commit, dirty flag and date.

    Args:
        run: a run of one's own.
        name: the name to publish it under.
        results: the folder that holds the runs.
        force: replace what was published under that name.

    Returns:
        Warnings: files measured with uncommitted changes, or at different commits.

    Raises:
        ConfigError: a name is unusable, or something is published under ``name`` and ``force`` is not set.
        ArtifactError: the run holds no results, or one of them cannot be read.
    """
    source = Path(results) / run_folder(run).relative_to(RESULTS)
    target = Path(results) / PUBLISHED.name / check_run_name(name)
    if target.exists() and not force:
        raise ConfigError(f"{target} exists: choose another name, or replace it with --force")
    paths = sorted(path for path in source.rglob("*.json") if path.name != RECORD_FILE)
    if not paths:
        raise ArtifactError(f"{source} holds no results: `snakemake --cores all` makes them")
    records = [_origin(path.relative_to(source), load_result(path)) for path in paths]
    warnings = _warnings(records)
    settings = {"from": run, "warnings": warnings}
    record = Result("publication", name, records, provenance(settings, seed=0), settings=settings)
    with atomic_directory(target) as folder:
        for path in paths:
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        save_result(folder / RECORD_FILE, record)
    return warnings


def _origin(path: Path, result: Result) -> dict[str, Any]:
    origin = result.provenance
    return {
        "file": path.as_posix(),
        "kind": result.kind,
        "run": result.run,
        "variant": result.variant,
        "git_commit": origin.get("git_commit"),
        "git_dirty": origin.get("git_dirty"),
        "seed": origin.get("seed"),
        "device": (origin.get("device") or {}).get("name"),
        "date": origin.get("date"),
    }


def _warnings(records: list[dict[str, Any]]) -> list[str]:
    warnings = []
    unsure = [record["file"] for record in records if record["git_dirty"] is not False]
    if unsure:
        warnings.append(
            f"{len(unsure)} of {len(records)} files were made with uncommitted changes or outside git: "
            f"{', '.join(unsure[:3])}{', ...' if len(unsure) > 3 else ''}"
        )
    for key, words in (("git_commit", "commits"), ("device", "devices")):
        values = sorted({str(record[key]) for record in records})
        if len(values) > 1:
            warnings.append(f"the files come from {len(values)} {words}: {', '.join(values)}")
    return warnings
