"""LongGen hybrids in vLLM: a plugin that vLLM finds by its entry point ``vllm.general_plugins``.

`longgen.serving.blocks` says which blocks a sparse layer keeps and sees. Here, `cache` tells vLLM's block manager and
`attention` its kernels, `models` puts both into vLLM's own models of the base families, and `checks` refuses what would
not be right. Nothing of vLLM is imported before it calls `register`.
"""

from __future__ import annotations

import importlib.util
import logging

from longgen.errors import ConfigError
from longgen.shapes import HYBRID_PREFIX

# Those whose model vLLM has itself, with one attention per layer; the others it runs by transformers' code.
SERVED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
SUPPORTED_VERSION = "0.32"


def register() -> None:
    """Make hybrids known to vLLM; it calls this in each of its processes.

    With another version of vLLM nothing is registered, since plugins are called for every model: hybrids are then
    unknown to it, and an error in its log says which version they need.
    """
    import vllm

    if not f"{vllm.__version__}.".startswith(f"{SUPPORTED_VERSION}."):
        logging.getLogger("vllm.longgen").error(
            "vLLM is version %s: LongGen hybrids cannot be served, allowed is vLLM %s",
            vllm.__version__,
            SUPPORTED_VERSION,
        )
        return
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from longgen.modeling import BASE_FAMILIES, longgen_classes
    from longgen.serving.vllm.checks import HybridChecks, PlainChecks

    for family in BASE_FAMILIES:
        name = longgen_classes(family)[1].__name__
        # the others are known too, so that `checks` can say why they are not served
        served = name if family in SERVED_FAMILIES else longgen_classes("llama")[1].__name__
        ModelRegistry.register_model(name, f"longgen.serving.vllm.models:{served}")
        MODELS_CONFIG_MAP[name] = HybridChecks
        # a config's `architectures` decides what vLLM runs, whatever its `model_type` says
        MODELS_CONFIG_MAP.setdefault(name.removeprefix("LongGen"), PlainChecks)


def base_family(model_type: str) -> str:
    """The family that a hybrid's ``model_type`` stands for."""
    return model_type.removeprefix(HYBRID_PREFIX)


def need_vllm() -> None:
    """Raise ConfigError, with what helps, unless vLLM is installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("vllm is not installed: `pip install 'longgen[vllm]'` on a GPU, `make serving-env` on a CPU")


def engine_version() -> str:
    """vLLM and its version."""
    import vllm

    return f"vLLM {vllm.__version__}"
