"""What answers a claim at the paper's scale: models of its shape, timed whole or composed of slices; their caches."""

from __future__ import annotations

import pandas as pd

from longgen.layout import count_full_layers
from longgen.pattern import SparsePattern
from longgen.records.speed import COMPOSED_MODEL, KV_CACHE, MODEL_DECODE, MODEL_PREFILL, SLICE, SLICE_PREFILL
from longgen.reporting.claim_measures import Measurement, kv_reduction_of, speedup_of
from longgen.reporting.inference_measures import inference_rows
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.paper import PaperClaim, PaperClaims, PaperVariant
from longgen.reporting.run import Run

TRAINING, INFERENCE = "training-speed", "inference-speed"


def measured_at_paper_scale(
    run: Run, paper: PaperClaims, claim: PaperClaim, variant: PaperVariant
) -> tuple[Measurement, str] | None:
    """A speed-up or the KV reduction of a hybrid at the paper's scale.

    Returns:
        The value, and in words the device and how it was measured; None if ``run`` did not measure it, or only tried
        itself out.
    """
    if claim.measure == "kv_reduction":
        entry = _of_inference(run, paper, variant, KV_CACHE, "kv_fraction")
        entry = entry or _of_inference(run, paper, variant, MODEL_PREFILL, "kv_fraction")
    elif claim.stage == "training":
        entry = _of_training(run, paper, variant)
    elif claim.stage in ("prefill", "decode"):
        entry = _of_inference(
            run, paper, variant, {"prefill": MODEL_PREFILL, "decode": MODEL_DECODE}[claim.stage], "speedup"
        )
    else:
        entry = None
    if entry is None:
        return None
    row, kind, how = entry
    value = kv_reduction_of(row) if claim.measure == "kv_reduction" else speedup_of(row)
    return None if value is None else (value, f"{run.device(kind)}, {how}")


def timed_on_gpu(run: Run, claim: PaperClaim) -> bool:
    """Whether what `measured_at_paper_scale` finds of a speed-up was timed on a GPU."""
    return run.on_gpu(TRAINING if claim.stage == "training" else INFERENCE)


def _of_training(run: Run, paper: PaperClaims, variant: PaperVariant) -> tuple[pd.Series, str, str] | None:
    if not run.has(TRAINING) or run.settings(TRAINING).get("tiny"):
        return None
    rows = run.frame(TRAINING)
    rows = _at_scale(rows, paper)
    models = _of_variant(run, TRAINING, rows[rows["what"] == COMPOSED_MODEL], variant)
    if models.empty:
        return None
    return models.iloc[0], TRAINING, _composition(rows[rows["what"] == SLICE])


def _of_inference(
    run: Run, paper: PaperClaims, variant: PaperVariant, what: str, column: str
) -> tuple[pd.Series, str, str] | None:
    if not run.has(INFERENCE) or run.settings(INFERENCE).get("tiny"):
        return None
    rows = inference_rows(run)
    rows = _at_scale(rows[rows["batch"] == 1], paper)
    models = _of_variant(run, INFERENCE, rows[(rows["what"] == what) & rows[column].notna()], variant)
    if models.empty:
        return None
    row = models.sort_values("composed", kind="stable").iloc[0]  # what ran as a whole comes first
    if what == KV_CACHE:
        return row, INFERENCE, "storages counted layer by layer"
    if not row["composed"]:
        return row, INFERENCE, "the whole model"
    return row, INFERENCE, _composition(rows[rows["what"] == SLICE_PREFILL])


def _composition(slices: pd.DataFrame) -> str:
    """Of what a model is composed, in words."""
    if slices.empty:
        return "composed from parts of single layers"
    layers = slices["num_layers"].max()
    return "composed from single layers" if layers == 1 else f"composed from slices of {layers:.0f} layers"


def _at_scale(rows: pd.DataFrame, paper: PaperClaims) -> pd.DataFrame:
    return rows[is_measured(rows) & (rows["shape"] == paper.model) & (rows["length"] == paper.length)]


def _of_variant(run: Run, kind: str, models: pd.DataFrame, variant: PaperVariant) -> pd.DataFrame:
    patterns = run.settings(kind)["patterns"].items()
    same = [name for name, sizes in patterns if SparsePattern(**sizes) == variant.pattern]
    models = models[models["pattern"].isin(same)]
    full_layers = [count_full_layers(int(count), variant.full_layers) for count in models["num_layers"]]
    return models[models["full_layers"] == full_layers]
