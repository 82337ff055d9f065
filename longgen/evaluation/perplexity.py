"""Perplexity by position on held-out text: does more context help, and does it hold up to the trained length?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from longgen.config import EvaluationSettings
from longgen.data.recall import haystack
from longgen.progress import progress_bar
from longgen.statistics import bootstrap_interval

# A byte never seen as "impossible": keeps exp() of a bad interval finite.
MAX_NLL = 50.0


@torch.no_grad()
def evaluate_perplexity(
    model: Any, text: np.ndarray, settings: EvaluationSettings, seed: int, description: str
) -> list[dict[str, Any]]:
    """Negative log-likelihood of held-out text in bins of its position in the context.

    Args:
        model: a causal LM.
        text: held-out token ids.
        settings: the longest of its lengths is the context; number of documents and bins.
        seed: of the excerpts; all variants get the same ones.
        description: label of the progress bar.

    Returns:
        records as in docs/results-format.md (kind ``perplexity``): NLL in nats per token, with a 95 % bootstrap
        interval over documents.
    """
    length = max(settings.lengths)
    generator = np.random.default_rng([seed, length])
    rows = np.stack([haystack(generator, text, length + 1) for _ in range(settings.perplexity_documents)])
    losses = np.empty((len(rows), length))
    with progress_bar(len(rows), description, "document") as bar:
        for start in range(0, len(rows), settings.batch_size):
            tokens = torch.from_numpy(rows[start : start + settings.batch_size].astype(np.int64)).to(model.device)
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits.float()
            loss = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
            losses[start : start + settings.batch_size] = loss.clamp(max=MAX_NLL).cpu().numpy()
            bar.update(len(tokens))
    edges = np.linspace(0, length, settings.perplexity_bins + 1).round().astype(int)
    records = []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        by_document = losses[:, first:last].mean(axis=1)
        nll = float(by_document.mean())
        low, high = bootstrap_interval(by_document, seed=seed)
        place = {"position_start": first, "position_end": last, "n": len(rows)}
        records.append(place | {"nll": nll, "nll_low": low, "nll_high": high, "perplexity": math.exp(nll)})
    return records
