"""Training rows on disk: for every phase of a stage, tokens and loss weights in the order in which they are used."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longgen.config import TrainingSettings
from longgen.data.synthetic.documents import DOCUMENTS
from longgen.errors import ArtifactError, ConfigError
from longgen.files import atomic_directory, read_mapping, write_json
from longgen.progress import progress_bar
from longgen.provenance import fingerprint
from longgen.scratch import local_copy

if TYPE_CHECKING:
    from longgen.training.batches import TrainingRows


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


def load_rows(folder: Path, settings: TrainingSettings, vocab_size: int) -> tuple[list[TrainingRows], str]:
    """The rows of every phase of a stage, memory-mapped, and their fingerprint.

    Read from a copy on this machine, where it has storage for that (`longgen.scratch`).

    Args:
        folder: made by `build_rows`, or by `longgen pack` where the stage reads packed rows.
        settings: the stage.
        vocab_size: of the model.

    Raises:
        ArtifactError: missing or damaged.
        ConfigError: there are too few packed rows, none of a length, or they have tokens that the model has not.
    """
    folder = local_copy(folder)
    return _generated_rows(folder) if settings.packed is None else _packed_rows(folder, settings, vocab_size)


def _packed_rows(folder: Path, settings: TrainingSettings, vocab_size: int) -> tuple[list[TrainingRows], str]:
    from longgen.data.packing.packed import PackedRows
    from longgen.training.batches import DocumentRows  # with PyTorch, which making rows does without

    phases: list[TrainingRows] = []
    next_row: Counter[int] = Counter()  # phases of one length read on where the one before stopped
    for number, phase in enumerate(settings.phases):
        rows = PackedRows.open(folder, phase.length)
        if rows.vocabulary_size > vocab_size:
            raise ConfigError(
                f"{folder} has {rows.vocabulary_size} token ids, and the model {vocab_size}: "
                "pack with the tokenizer of the model"
            )
        count, first = phase.steps * phase.batch_size, next_row[phase.length]
        if first + count > len(rows):
            raise ConfigError(
                f"phases[{number}].steps is {phase.steps}: {folder} has {len(rows)} rows of {phase.length} tokens, "
                f"allowed is {max(0, len(rows) - first) // phase.batch_size} with batches of {phase.batch_size}"
            )
        phases.append(DocumentRows(rows, first, settings.separate_documents, settings.answer_weight))
        next_row[phase.length] += count
    return phases, rows.fingerprint


def _generated_rows(folder: Path) -> tuple[list[TrainingRows], str]:
    from longgen.training.batches import GeneratedRows

    command = "longgen prepare CONFIG --stage base|extension"
    manifest = read_mapping(folder / "manifest.json", command, phases=int, fingerprint=str)
    try:
        phases: list[TrainingRows] = [
            GeneratedRows(
                *(np.load(folder / f"phase-{number}.{part}.npy", mmap_mode="r") for part in ("tokens", "weights"))
            )
            for number in range(manifest["phases"])
        ]
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{folder} is damaged ({error}): `{command}` remakes it") from None
    return phases, manifest["fingerprint"]
