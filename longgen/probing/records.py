"""What a probe writes: its results file, and the layouts that follow from it."""

from __future__ import annotations

from pathlib import Path

from longgen.evaluation.runs.model import attention_kernels
from longgen.files import write_json
from longgen.layout import PROBED, PROBED_HEADS, count_full_layers
from longgen.probed_layout import BY, layout_key
from longgen.probing.prompts import KINDS, TEXT_TOKENS
from longgen.probing.search import LAYOUT_SHARES, MeasuredSet
from longgen.probing.session import ProbeFindings, ProbeRequest
from longgen.provenance import provenance
from longgen.records.others import ProbeRecord
from longgen.results import Result


def probe_result(run: str, request: ProbeRequest, findings: ProbeFindings) -> Result:
    """The results file of a probe: a record for every set of full layers, with the losses of every prompt."""
    settings = {
        "model": {
            "name": request.model.resolve().name,
            "model_type": findings.model.config.model_type,
            "num_layers": findings.units.num_layers,
            "num_kv_heads": findings.units.num_kv_heads,
        },
        "weights": findings.inputs["weights"],
        "by": BY[PROBED_HEADS if request.by_heads else PROBED],
        "pattern": findings.pattern.to_dict(),
        "text": findings.source,
        "stand_in": findings.stand_in,
        "length": request.length,
        "prompts": request.prompts,
        "facts": request.facts,
        "kinds": list(KINDS),
        "text_tokens": TEXT_TOKENS,
        "dtype": request.dtype,
        "full_layers": findings.full_layers,
        "candidates": [[str(unit) for unit in group] for group in findings.groups],
        "placements": list(request.placements),
        "order": [str(unit) for unit in findings.order],
        "evaluations": findings.store.cost.evaluations,
        "seconds": findings.store.cost.seconds,
        "busy": findings.store.cost.busy(),
    }
    decisive = {key: value for key, value in settings.items() if key not in ("evaluations", "seconds", "busy")}
    origin = provenance(decisive, request.seed, request.device, findings.inputs, attention_kernels(findings.model))
    return Result("probe", run, [_record(each, findings) for each in findings.sets], origin, None, settings)


def _record(measured: MeasuredSet, findings: ProbeFindings) -> ProbeRecord:
    losses, unit = findings.store.losses(measured.layout), measured.unit
    return ProbeRecord(
        by=BY[PROBED_HEADS if findings.units.by_heads else PROBED],
        set=measured.name,
        full_layers=measured.layout.num_full,
        layer=unit and unit.layer,
        head=unit and unit.head,
        layout=layout_key(measured.layout),
        n=len(losses),
        answer_losses=[each.answers for each in losses],
        text_losses=[each.text for each in losses],
    )


def write_layouts(folder: Path, findings: ProbeFindings) -> list[Path]:
    """Write the probed layouts of `LAYOUT_SHARES` as files for ``longgen convert --layout``; returns their paths."""
    word = PROBED_HEADS if findings.units.by_heads else PROBED
    paths = []
    for share in LAYOUT_SHARES:
        count = count_full_layers(findings.units.num_layers, share)
        path = folder / f"{word}-{share.replace('/', '-')}.json"
        write_json(path, findings.units.layout(findings.order[: count * findings.units.per_layer]).kinds())
        paths.append(path)
    return paths
