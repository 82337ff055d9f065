"""LongGen: hybrid sparse attention with context extension (arXiv 2410.01485).

After ``import longgen``, ``transformers.AutoModelForCausalLM.from_pretrained`` loads converted checkpoints.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import wrapt

__version__ = "0.1.0"


def _register_models(transformers: ModuleType) -> None:
    # Importing the package registers. If it is what is importing transformers, it is on its way already.
    importlib.import_module("longgen.modeling")


# transformers takes seconds to import and the planner does not need it: register our models with it when (and only
# if) it is imported, whichever of the two imports comes first.
wrapt.register_post_import_hook(_register_models, "transformers")
