"""The model under probe: a folder, converted or not, as a hybrid whose layers' sight can be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from longgen.errors import ArtifactError
from longgen.foreign import reading
from longgen.layout import make_layout
from longgen.modeling.configuration import hybrid_of, longgen_config
from longgen.modeling.conversion.source import CONFIG, FolderSource, read_mapping
from longgen.modeling.convert import base_config
from longgen.modeling.loading import load_complete
from longgen.modeling.model import longgen_classes
from longgen.pattern import SparsePattern
from longgen.shapes import HYBRID_PREFIX

_ADVICE = "get the checkpoint anew, or convert it anew with `longgen convert --overwrite`"


def load_hybrid(
    folder: Path, pattern: SparsePattern | None, dtype: torch.dtype, device: str
) -> tuple[Any, Any, SparsePattern]:
    """Model with all layers full, tokenizer, and the pattern that sparse layers are to have.

    Args:
        folder: of a checkpoint of a supported family, converted or not.
        pattern: None for that of a converted model, or for an unconverted one the default of `SparsePattern`.
        dtype: of weights and activations.
        device: where it computes.

    Raises:
        ArtifactError: ``folder`` is no model folder, incomplete, or damaged.
        ConfigError: a model that cannot become a hybrid.
    """
    if not (folder / CONFIG).is_file():
        raise ArtifactError(
            f"{folder} has no {CONFIG}: allowed is the folder of a checkpoint, converted or not; what is on the hub or "
            "a .gguf file is made one by `longgen convert`"
        )
    if str(read_mapping(folder / CONFIG).get("model_type")).startswith(HYBRID_PREFIX):
        with reading(folder / CONFIG, _ADVICE):
            config = AutoConfig.from_pretrained(folder)
        pattern = pattern or hybrid_of(config).pattern
        layers = config.num_hidden_layers
        config.longgen = {"layout": make_layout(layers, "all").kinds(), "pattern": pattern.to_dict()}
        family = config.model_type.removeprefix(HYBRID_PREFIX)
    else:
        base = base_config(FolderSource(folder))
        pattern = pattern or SparsePattern()
        config = longgen_config(base, make_layout(base.num_hidden_layers, "all"), pattern)
        family = base.model_type
    model = load_complete(folder, _ADVICE, longgen_classes(family)[1], config=config, dtype=dtype)
    with reading(folder, _ADVICE):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return model.to(device).eval(), tokenizer, pattern
