"""Losses of documents, kept one by one: a run of hours goes on after a kill with the next document."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longgen.errors import ArtifactError
from longgen.evaluation.likelihood import PREFILL_TOKENS, bin_edges, bin_means, token_nll
from longgen.evaluation.runs.line_files import append_to, read_lines, write_line
from longgen.progress import progress_bar
from longgen.provenance import fingerprint


def measure_documents(
    model: Any,
    rows: np.ndarray,
    bins: int,
    identity: dict[str, Any],
    work: Path,
    description: str,
    prefill_tokens: int = PREFILL_TOKENS,
) -> np.ndarray:
    """Mean NLL of every document in bins of position; those in ``work`` are not computed again.

    Args:
        model: as `token_nll`'s.
        rows: [documents, length + 1] int64.
        bins: of positions.
        identity: plain data that determines the losses besides the rows: the model's weights, how it computes.
        work: JSON lines, one per document, that are read and appended to. Those of other tokens, bins or another
            ``identity`` stay there unused.
        description: label of the progress bar.
        prefill_tokens: as `token_nll`'s.

    Returns:
        [documents, bins] float64, nats per token.

    Raises:
        ArtifactError: a loss is not a number, or another process writes ``work``.
    """
    length = rows.shape[1] - 1
    edges, by = bin_edges(length, bins), fingerprint(identity | {"bins": bins})
    names = [row_hash(row) for row in rows]
    with append_to(work) as file:
        document_nll = {
            line["tokens"]: line["nll"] for line in read_lines(work, tokens=str, nll=list, by=str) if line["by"] == by
        }
        initial = sum(name in document_nll for name in names) * length
        with progress_bar(len(rows) * length, description, "token", initial) as bar:
            for number, (name, row) in enumerate(zip(names, rows, strict=True), 1):
                if name in document_nll:
                    continue
                tokens = torch.from_numpy(row)[None].to(model.device)
                try:
                    losses = token_nll(model, tokens, prefill_tokens, bar.update).cpu().numpy()
                except ArtifactError as error:
                    raise ArtifactError(f"document {number} of {len(rows)}: {error}") from None
                document_nll[name] = bin_means(losses, edges)[0].tolist()
                write_line(file, {"tokens": name, "by": by, "nll": document_nll[name]})
                file.flush()
    return np.array([document_nll[name] for name in names])


def row_hash(row: np.ndarray) -> str:
    """Tells whether losses are of these very tokens."""
    return hashlib.sha256(row.tobytes()).hexdigest()[:16]
