"""What a probe writes: its results file, and the layouts that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longgen.evaluation.runs.model import attention_kernels
from longgen.files import write_json
from longgen.layout import PROBED, PROBED_HEADS, count_full_layers
from longgen.probing.layouts import BY, layout_key
from longgen.probing.prompts import KINDS, TEXT_TOKENS
from longgen.probing.search import LAYOUT_SHARES, MeasuredSet
from longgen.probing.session import Findings, Request
from longgen.provenance import provenance
from longgen.results import Result


def probe_result(run: str, request: Request, found: Findings) -> Result:
    """The results file of a probe: a record for every set of full layers, with the losses of every prompt."""
    settings = {
        "model": {
            "name": request.model.resolve().name,
            "model_type": found.model.config.model_type,
            "num_layers": found.units.num_layers,
            "num_kv_heads": found.units.num_kv_heads,
        },
        "weights": found.inputs["weights"],
        "by": BY[PROBED_HEADS if request.by_heads else PROBED],
        "pattern": found.pattern.to_dict(),
        "text": found.source,
        "stand_in": found.stand_in,
        "length": request.length,
        "prompts": request.prompts,
        "facts": request.facts,
        "kinds": list(KINDS),
        "text_tokens": TEXT_TOKENS,
        "dtype": request.dtype,
        "full_layers": found.full_layers,
        "candidates": [[str(unit) for unit in group] for group in found.groups],
        "placements": list(request.placements),
        "order": [str(unit) for unit in found.order],
        "evaluations": found.store.spent.evaluations,
        "seconds": found.store.spent.seconds,
        "busy": found.store.spent.busy(),
    }
    decisive = {key: value for key, value in settings.items() if key not in ("evaluations", "seconds", "busy")}
    origin = provenance(decisive, request.seed, request.device, found.inputs, attention_kernels(found.model))
    return Result("probe", run, [_record(each, found) for each in found.sets], origin, None, settings)


def _record(measured: MeasuredSet, found: Findings) -> dict[str, Any]:
    losses, unit = found.store.losses(measured.layout), measured.unit
    return {
        "by": BY[PROBED_HEADS if found.units.by_heads else PROBED],
        "set": measured.name,
        "full_layers": measured.layout.num_full,
        "layer": unit and unit.layer,
        "head": unit and unit.head,
        "layout": layout_key(measured.layout),
        "n": len(losses),
        "answer_losses": [each.answers for each in losses],
        "text_losses": [each.text for each in losses],
    }


def write_layouts(folder: Path, found: Findings) -> list[Path]:
    """Write the probed layouts of `LAYOUT_SHARES` as files for ``longgen convert --layout``; returns their paths."""
    word = PROBED_HEADS if found.units.by_heads else PROBED
    paths = []
    for share in LAYOUT_SHARES:
        count = count_full_layers(found.units.num_layers, share)
        path = folder / f"{word}-{share.replace('/', '-')}.json"
        write_json(path, found.units.layout(found.order[: count * found.units.per_layer]).kinds())
        paths.append(path)
    return paths
