"""`longgen probe`: which layers, or heads, of a checkpoint need full attention."""

from __future__ import annotations

from pathlib import Path

from longgen.cli.machine import torch_dtype, use_threads
from longgen.cli.options.models import ProbeOptions, ProbeUnit
from longgen.config import ProbeSettings, load_experiment, require_part
from longgen.hardware import require_gpu
from longgen.layout import PROBED, PROBED_HEADS
from longgen.pattern import SparsePattern
from longgen.probed_layout import record_name
from longgen.probing.records import probe_result, write_layouts
from longgen.probing.search import all_full, all_sparse, default_placements
from longgen.probing.session import ProbeFindings, ProbeRequest, probe_model
from longgen.results import check_run_name, save_result


def probe(options: ProbeOptions) -> None:
    """Probe the model, write its record and layout files, and print what was found."""
    use_threads(options.threads)
    name, request = _name_and_request(options)
    require_gpu("--device", request.device)
    path = options.output / check_run_name(name) / record_name(PROBED_HEADS if request.by_heads else PROBED)
    findings = probe_model(request, path.with_suffix(".measurements.jsonl"), options.deadline)
    save_result(path, probe_result(name, request, findings))
    layout_files = write_layouts(options.layouts or Path("artifacts") / name / "layouts", findings)
    _print_summary(path, layout_files, findings)


def _name_and_request(options: ProbeOptions) -> tuple[str, ProbeRequest]:
    """Name of the run, and what the options ask, or the configuration that they name."""
    if options.config is None:
        settings = options.search.applied_to(
            options.prompts.applied_to(ProbeSettings(candidates=options.candidates or None))
        )
        pattern = options.sparse_pattern() if options.has_pattern() else None
        return options.name, _request(options, settings, pattern, options.dtype, options.device, options.seed)
    experiment = load_experiment(options.config)
    settings = require_part(experiment.probe, "probe")
    pattern = experiment.probe_pattern
    return experiment.name, _request(options, settings, pattern, settings.dtype, settings.device, experiment.seed)


def _request(
    options: ProbeOptions, settings: ProbeSettings, pattern: SparsePattern | None, dtype: str, device: str, seed: int
) -> ProbeRequest:
    by_heads = options.by is ProbeUnit.heads
    return ProbeRequest(
        model=options.model,
        pattern=pattern,
        text=settings.text,
        length=settings.length,
        prompts=settings.prompts,
        facts=settings.facts,
        full_layers=str(settings.full_layers),
        candidates=settings.candidates,
        by_heads=by_heads,
        placements=tuple(options.placement or default_placements(by_heads)),
        dtype=str(torch_dtype(dtype, device)).removeprefix("torch."),
        device=device,
        seed=seed,
    )


def _print_summary(path: Path, layout_files: list[Path], findings: ProbeFindings) -> None:
    print(f"{path}: loss on the answers, in nats per token")
    for each in (all_full(findings.units), all_sparse(findings.units)):
        print(f"  all {each.name}: {findings.store.answers(each.layout).mean():.3f}")
    for name in ("ranked", "greedy"):
        sets = [each for each in findings.sets if each.name == name and each.layout.num_full <= findings.full_layers]
        for each in sets[-1:]:
            print(f"  {each.layout.num_full:g} full, {name}: {findings.store.answers(each.layout).mean():.3f}")
    print(f"  order: {' '.join(map(str, findings.order[: findings.full_layers * findings.units.per_layer]))}")
    print("  layouts: " + ", ".join(map(str, layout_files)))
