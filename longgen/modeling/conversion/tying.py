"""Whether LM head and embeddings are one matrix: config.json says so, but what the weights' files hold decides.

The rule is that of transformers 5 (`PreTrainedModel.tie_weights`), so that training, export and conversion have the
model that ``from_pretrained`` loads: tied where config.json says so, unless the files hold both matrices with different
values. Where they hold one of them, whichever it is, both are that one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from longgen.modeling.conversion.safetensors_file import PIECE_BYTES, read_header
from longgen.modeling.conversion.source import FolderSource
from longgen.modeling.conversion.weights import find_weights

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


def is_tied(folder: Path, config: Any) -> bool:
    """Whether the model that transformers loads from ``folder`` has one matrix for LM head and embeddings.

    Args:
        folder: a checkpoint in safetensors.
        config: its Hugging Face config.

    Raises:
        ArtifactError: no safetensors, or a file that is damaged.
    """
    if not getattr(config, "tie_word_embeddings", False):
        return False
    files = tensor_files(folder)
    return HEAD not in files or EMBEDDINGS not in files or _are_equal(files[HEAD], files[EMBEDDINGS])


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file that every tensor of the checkpoint in ``folder`` is in. Raises ArtifactError as `is_tied`."""
    files = [folder / file for file in find_weights(FolderSource(folder)).files]
    return {name: path for path in files for name in read_header(path).tensors}


def _are_equal(head_file: Path, embeddings_file: Path) -> bool:
    with safe_open(head_file, "pt") as heads, safe_open(embeddings_file, "pt") as embeddings:
        head, other = heads.get_slice(HEAD), embeddings.get_slice(EMBEDDINGS)
        rows, width = head.get_shape()
        if other.get_shape() != [rows, width]:
            return False
        step = max(1, PIECE_BYTES // (8 * width))
        for start in range(0, rows, step):
            one, two = head[start : start + step].double(), other[start : start + step].double()
            if bool((one != two).any()):
                return False
    return True
