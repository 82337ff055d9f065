"""Low-rank adapters in place of training all weights: LoRA (Hu et al. 2021, arXiv 2106.09685), through `peft`.

With embeddings and norms trained whole beside them, as LongLoRA does (Chen et al. 2023, arXiv 2309.12307). The adapted
model keeps its class and its modules' paths; a matrix with an adapter is one level deeper
(``q_proj.base_layer.weight``), and beside it are ``q_proj.lora_A.default.weight`` [rank, inputs] and
``q_proj.lora_B.default.weight`` [outputs, rank]. What is saved are the merged weights, by the base model's names.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from longgen.config import LoraSettings
from longgen.config.training import LORA_TARGETS
from longgen.errors import ConfigError

ADAPTER = "default"  # peft's name where there is one adapter


def add_adapters(model: Any, settings: LoraSettings) -> None:
    """Add adapters to ``model``, in place, and freeze what is not to be trained.

    The adapters are float32, and change nothing before the first step: A is drawn from torch's global generator, and B
    is 0. On the meta device they are without values until `reset_adapters`.

    Args:
        model: a Hugging Face causal LM, before its weights are sharded.
        settings: which matrices, and what is trained beside them.

    Raises:
        ConfigError: peft is not installed, or the model has no matrix of a name that is asked for.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            f"lora is set, which needs peft ({error}): allowed with `pip install 'longgen[lora]'`"
        ) from None
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    missing = [target for target in settings.targets if target not in names]
    if missing:  # peft would adapt the others, and not say so
        raise ConfigError(
            f"lora.targets has {', '.join(missing)}: allowed are those that {model.config.model_type} has: "
            f"{', '.join(name for name in LORA_TARGETS if name in names)}"
        )
    # peft declares alpha a whole number, and computes alpha / rank
    alpha: Any = settings.alpha
    config = LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=list(settings.targets))
    on_meta = any(parameter.is_meta for parameter in model.parameters())
    inject_adapter_in_model(config, model, ADAPTER, low_cpu_mem_usage=on_meta)
    for name, parameter in model.named_parameters():
        is_adapter, is_norm = base_name(name) is None, "norm" in name.split(".")[-2]
        parameter.requires_grad_(is_adapter or (is_norm and settings.train_norms))
        if is_adapter:
            parameter.data = parameter.data.float()
    model.get_input_embeddings().weight.requires_grad_(settings.train_embeddings)


def base_name(name: str) -> str | None:
    """What the base model calls a parameter of the adapted model; None for a matrix of an adapter.

    The same name for a parameter, or a whole model, without adapters.
    """
    parts = name.split(".")
    if any(part in ("lora_A", "lora_B") for part in parts):
        return None
    return ".".join(part for part in parts if part != "base_layer")


@torch.no_grad()
def merged_weight(model: torch.nn.Module, name: str) -> torch.Tensor:
    """A whole parameter of the base model with its adapter merged into it: ``W + B A alpha / rank``.

    Args:
        model: adapted or not. Where it is sharded all processes must ask, for the same parameters in the same order:
            the parts are gathered.
        name: the base model's, as of `base_name`.

    Returns:
        float32 on the parameter's device, without gradient. It may share memory with a parameter that has no adapter.
    """
    path, _, leaf = name.rpartition(".")
    module: Any = model.get_submodule(path)
    if not hasattr(module, "base_layer"):
        return _whole(getattr(module, leaf))
    weight = _whole(getattr(module.base_layer, leaf))
    if leaf != "weight":  # adapters have no bias
        return weight
    down, up = (_whole(matrices[ADAPTER].weight) for matrices in (module.lora_A, module.lora_B))
    return torch.addmm(weight, up, down, alpha=module.scaling[ADAPTER])


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    parameter = parameter.detach()
    return (parameter.full_tensor() if isinstance(parameter, DTensor) else parameter).float()


@torch.no_grad()
def reset_adapters(model: torch.nn.Module, seed: int) -> None:
    """Draw all adapters anew, in place: A uniformly as `torch.nn.Linear` does (peft's choice), B = 0.

    The values follow from ``seed`` and the parameters' names: they are the same however many processes share the model.

    Args:
        model: adapted, with its adapters on a device, sharded or not.
        seed: any whole number.
    """
    for name, parameter in model.named_parameters():
        if base_name(name) is not None:
            continue
        values = torch.zeros(parameter.shape)
        if ".lora_A." in name:
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
            torch.nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)
        if isinstance(parameter, DTensor):
            # every process has drawn the whole: none needs to be sent its part
            sharded = distribute_tensor(values, parameter.device_mesh, parameter.placements, src_data_rank=None)
            parameter.to_local().copy_(sharded.to_local())
        else:
            parameter.copy_(values)
