"""Conversion of a checkpoint on disk into a hybrid: the weights are the base's, unchanged; config and card are new."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import AutoConfig

from longgen.errors import ArtifactError
from longgen.files import atomic_directory
from longgen.layout import Layout, parse_layout
from longgen.modeling.configuration import longgen_config
from longgen.pattern import SparsePattern

# Tokenizer, generation defaults and chat template travel with the model.
COMPANION_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "generation_config.json",
    "*.jinja",
)


def convert_checkpoint(
    source: Path | str,
    destination: Path | str,
    layout: Layout | str,
    pattern: SparsePattern,
    rope_theta: float | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write the hybrid of the checkpoint in ``source`` to ``destination``.

    State-dict keys stay the base model's, so that the safetensors shards are copied as they are: memory does not grow
    with the model.

    Args:
        source: folder with config.json and safetensors weights of a family in `BASE_FAMILIES`.
        destination: folder to make; complete or absent, never half-written.
        layout: a `Layout`, or a word for `parse_layout` such as ``middle:1/3``.
        pattern: of the sparse layers.
        rope_theta: new RoPE base; None keeps the base model's.
        max_length: new maximum length in tokens; None keeps the base model's.
        overwrite: replace an existing destination.

    Raises:
        ArtifactError: source incomplete, or destination exists.
        ConfigError: the model does not qualify or the layout does not fit.
    """
    source, destination = Path(source), Path(destination)
    if not (source / "config.json").is_file():
        raise ArtifactError(f"{source} has no config.json: give the folder of a Hugging Face checkpoint")
    shards = sorted(source.glob("*.safetensors"))
    if not shards:
        raise ArtifactError(f"{source} has no *.safetensors: save the model with save_pretrained (safetensors) first")
    if destination.exists() and not overwrite:
        raise ArtifactError(f"{destination} exists: give --overwrite to replace it")

    base = AutoConfig.from_pretrained(source)
    if isinstance(layout, str):
        layout = parse_layout(layout, base.num_hidden_layers)
    config = longgen_config(base, layout, pattern, rope_theta, max_length)
    config.architectures = [f"LongGen{name}" for name in base.architectures or []]
    with atomic_directory(destination) as folder:
        for file in [*shards, *source.glob("*.safetensors.index.json"), *companions(source)]:
            shutil.copyfile(file, folder / file.name)
        config.save_pretrained(folder)
        (folder / "README.md").write_text(_model_card(source.name, layout, pattern, config.model_type), "utf-8")


def companions(source: Path) -> list[Path]:
    """Files of ``source`` that travel with the weights: tokenizer, generation defaults, chat template."""
    return sorted({path for pattern in COMPANION_FILES for path in source.glob(pattern) if path.is_file()})


def _model_card(base: str, layout: Layout, pattern: SparsePattern, model_type: str) -> str:
    kinds = "".join("F" if full else "s" for full in layout.full)
    return f"""---
library_name: transformers
tags: [longgen, {model_type}]
---
# LongGen hybrid of {base}

{layout.num_full} of {layout.num_layers} layers keep full attention (F), the others are sparse (s), from the bottom up:
`{kinds}`. Sparse layers: blocks of {pattern.block_size} tokens, {pattern.sink_blocks} sink block(s),
{pattern.local_blocks} local block(s), stride {pattern.stride or "none"}.

The weights are those of the base model: fine-tune before use (`longgen train`).

```python
import longgen  # registers the model class
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("PATH")
```
"""
