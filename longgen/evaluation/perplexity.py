"""Perplexity by position on held-out text: does more context help, and does it hold up to the trained length?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from longgen.config import EvaluationSettings
from longgen.data.synthetic.recall import haystack
from longgen.evaluation.likelihood import bin_edges, bin_means, position_records, token_nll
from longgen.progress import progress_bar


def evaluate_perplexity(
    model: Any, text: np.ndarray, settings: EvaluationSettings, seed: int, description: str
) -> list[dict[str, Any]]:
    """Negative log-likelihood of held-out text in bins of its position in the context.

    Args:
        model: a causal LM (`longgen.evaluation.likelihood.token_nll`).
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
    losses = []
    with progress_bar(len(rows), description, "document") as bar:
        for start in range(0, len(rows), settings.batch_size):
            tokens = torch.from_numpy(rows[start : start + settings.batch_size].astype(np.int64)).to(model.device)
            losses.append(token_nll(model, tokens).cpu().numpy())
            bar.update(len(tokens))
    edges = bin_edges(length, settings.perplexity_bins)
    return position_records(bin_means(np.concatenate(losses), edges), edges, seed)
