"""Training rows on disk: for every phase of a stage, tokens and loss weights in the order in which they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longgen.config import TrainingSettings
from longgen.data.documents import DOCUMENTS
from longgen.errors import ArtifactError, ConfigError
from longgen.files import atomic_directory, read_json, write_json
from longgen.progress import progress_bar
from longgen.provenance import fingerprint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Rows:
    """Rows of one phase.

    Attributes:
        tokens: [rows, length + 1] uint16: a row's inputs are all but its last token, its targets all but its first.
        weights: [rows, length + 1] float16: how much predicting each token counts.
    """

    tokens: np.ndarray
    weights: np.ndarray

    def batch(
        self, start: int, size: int, device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs and targets [size, length] int64 and target weights [size, length] float32 of rows from ``start``."""
        import torch

        tokens = torch.from_numpy(self.tokens[start : start + size].astype(np.int64)).to(device)
        weights = torch.from_numpy(self.weights[start : start + size, 1:].astype(np.float32)).to(device)
        return tokens[:, :-1], tokens[:, 1:], weights


def build_rows(
    settings: TrainingSettings, text: np.ndarray, text_fingerprint: str, seed: int, stage: str, folder: Path
) -> str:
    """Write the rows of every phase to ``folder``.

    Args:
        settings: the phases with their mixtures of documents.
        text: token ids of the training text.
        text_fingerprint: of the corpus.
        seed: the run's seed; every row has a random stream of its own.
        stage: ``base`` or ``extension``.
        folder: to make.

    Returns:
        the fingerprint of the rows: of all that determines them.

    Raises:
        ConfigError: a length is longer than the text.
    """
    for number, phase in enumerate(settings.phases):
        if phase.length >= len(text):
            raise ConfigError(f"{stage}.phases[{number}].length is {phase.length}: the text has {len(text)} tokens")
    mixtures = [(p.length, p.batch_size, p.steps, p.mixture) for p in settings.phases]
    identity = fingerprint([text_fingerprint, seed, stage, mixtures])
    total = sum(phase.steps * phase.batch_size for phase in settings.phases)
    with atomic_directory(folder) as temporary, progress_bar(total, f"{stage} rows", "row") as bar:
        for number, phase in enumerate(settings.phases):
            kinds, shares = list(phase.mixture), np.array(list(phase.mixture.values()))
            count, length = phase.steps * phase.batch_size, phase.length + 1
            tokens, weights = np.empty((count, length), np.uint16), np.empty((count, length), np.float16)
            for row in range(count):
                # a stream per row: what a row holds depends on nothing but its place
                generator = np.random.default_rng([seed, stage == "extension", number, row])
                kind = kinds[generator.choice(len(kinds), p=shares / shares.sum())]
                tokens[row], weights[row] = DOCUMENTS[kind](generator, text, length)
                bar.update()
            np.save(temporary / f"phase-{number}.tokens.npy", tokens)
            np.save(temporary / f"phase-{number}.weights.npy", weights)
        write_json(temporary / "manifest.json", {"fingerprint": identity, "phases": len(settings.phases)})
    return identity


def load_rows(folder: Path) -> tuple[list[Rows], str]:
    """Read what `build_rows` wrote, memory-mapped; the rows of every phase, and their fingerprint.

    Raises:
        ArtifactError: missing or damaged.
    """
    command = "longgen prepare CONFIG --stage base|extension"
    manifest = read_json(folder / "manifest.json", made_by=command)
    try:
        phases = [
            Rows(*(np.load(folder / f"phase-{number}.{part}.npy", mmap_mode="r") for part in ("tokens", "weights")))
            for number in range(manifest["phases"])
        ]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} is damaged ({error}): `{command}` remakes it") from None
    return phases, manifest["fingerprint"]
