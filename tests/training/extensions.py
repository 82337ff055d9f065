"""A tiny experiment that extends a checkpoint on packed rows, as the large ones do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from longgen.config import Experiment, load_experiment
from longgen.data.packing.pack import pack
from longgen.data.packing.settings import PackSettings
from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.modeling import convert_checkpoint
from longgen.strict import build
from longgen.training.base import base_config
from longgen.training.stages import StageFiles, train_extension
from tests.data.packing.corpora import documents, settings, source, write_jsonl
from tests.experiments import tiny_settings

LENGTH, STEPS, BATCH = 128, 12, 4


def extension_settings(**extension: Any) -> dict[str, Any]:
    """A configuration without base, benchmarks and profiling; ``extension`` changes that part of it."""
    given = tiny_settings()
    for part in ("data", "base", "benchmarks", "profiling"):
        del given[part]
    given["model"] |= {"checkpoint": "base", "vocab_size": VOCABULARY_SIZE, "max_position_embeddings": 64}
    phase = {"length": LENGTH, "batch_size": BATCH, "steps": STEPS, "learning_rate": 3e-3, "warmup_steps": 2}
    given["extension"] = {
        "packed": "pack.yaml",
        "phases": [phase],
        "rope_theta": 40000.0,
        "checkpoint_every": 10,
    } | extension
    given["variants"]["shifted"] = {"full_layers": "all", "training_attention": "shifted"}
    return given


def prepared(folder: Path) -> Path:
    """Base model (random weights), its hybrids, and packed rows in ``folder``."""
    torch.manual_seed(5)
    experiment = experiment_of(folder, extension_settings())
    config = base_config(experiment.model, 64)
    base = LlamaForCausalLM(config)
    base.save_pretrained(folder / "base")
    (folder / "base" / "tokenizer.json").write_text("{}")
    for name in ("full", "middle", "shifted"):
        variant = experiment.variant(name)
        convert_checkpoint(folder / "base", folder / name, variant.layout, variant.pattern, 40000.0, 256)
    pack(build(PackSettings, packing(folder), ""), folder / "rows")
    return folder


def packing(folder: Path) -> dict[str, Any]:
    """Settings of `longgen pack`, as its file has them."""
    corpus = source(write_jsonl(folder / "corpus.jsonl", documents(400)))
    return asdict(settings(corpus, lengths=[LENGTH], token_budget=LENGTH * (STEPS * BATCH + 8)))


def experiment_of(folder: Path, given: dict[str, Any]) -> Experiment:
    path = folder / "extension.yaml"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    return load_experiment(path)


def files(folder: Path, variant: str, name: str, **changes: Any) -> StageFiles:
    return StageFiles(
        folder / "rows", folder / variant, folder / name, folder / f"{name}.json", folder / f"{name}-steps", **changes
    )


def extended(
    folder: Path, name: str, variant: str = "middle", setup: Any = None, metrics: bool = False, **extension: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights and records of a finished extension."""
    experiment = experiment_of(folder, extension_settings(**extension))
    where = files(folder, variant, name, **({"metrics": folder / f"{name}-metrics"} if metrics else {}))
    train_extension(experiment, variant, where, setup)
    return load_file(folder / name / "model.safetensors"), json.loads((folder / f"{name}.json").read_text())["records"]
