"""LongGen: hybrid sparse attention with context extension (arXiv 2410.01485).

After ``import longgen``, ``transformers.AutoModelForCausalLM.from_pretrained`` loads converted checkpoints. What
`__all__` names comes from the module where it is defined when it is first asked for: PyTorch takes seconds to import.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:  # what `_HOMES` says, for editors and type checkers
    from longgen.attention import sparse_attention as sparse_attention
    from longgen.config import load_experiment as load_experiment
    from longgen.hybrid import Hybrid as Hybrid
    from longgen.layout import Layout as Layout
    from longgen.layout import make_layout as make_layout
    from longgen.model import Model as Model
    from longgen.modeling import LongGenCache as LongGenCache
    from longgen.modeling import convert_checkpoint as convert_checkpoint
    from longgen.modeling import hybrid_of as hybrid_of
    from longgen.pattern import SparsePattern as SparsePattern
    from longgen.results import load_result as load_result
    from longgen.shapes import ModelShape as ModelShape
    from longgen.shapes import model_shape as model_shape

__version__ = "0.1.0"

_HOMES = {
    "Hybrid": "longgen.hybrid",
    "Layout": "longgen.layout",
    "LongGenCache": "longgen.modeling",
    "Model": "longgen.model",
    "ModelShape": "longgen.shapes",
    "SparsePattern": "longgen.pattern",
    "convert_checkpoint": "longgen.modeling",
    "hybrid_of": "longgen.modeling",
    "load_experiment": "longgen.config",
    "load_result": "longgen.results",
    "make_layout": "longgen.layout",
    "model_shape": "longgen.shapes",
    "sparse_attention": "longgen.attention",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def _register_models(transformers: ModuleType) -> None:
    # Importing the package registers. If it is what is importing transformers, it is on its way already.
    importlib.import_module("longgen.modeling")


# transformers takes seconds to import and the planner does not need it: register our models with it when (and only
# if) it is imported, whichever of the two imports comes first.
wrapt.register_post_import_hook(_register_models, "transformers")
