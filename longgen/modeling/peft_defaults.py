"""PEFT's defaults for hybrids: what it adapts in a model when not told, as in the family the hybrid is made from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import ModuleType


def add_peft_defaults(constants: ModuleType, families: Iterable[str]) -> None:
    """Give every hybrid the entries of its family in PEFT's tables, which are keyed by ``model_type``.

    Args:
        constants: the module ``peft.utils.constants``.
        families: `longgen.modeling.BASE_FAMILIES`. Where PEFT knows no default for one, its hybrid has none either.
    """
    for name, table in vars(constants).items():
        if re.fullmatch(r"TRANSFORMERS_MODELS_TO_\w+_MODULES_MAPPING", name):
            table |= {f"longgen_{family}": table[family] for family in families if family in table}
