"""All methods by name, and each at a given KV budget."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

from longgen import names
from longgen.errors import ConfigError
from longgen.evaluation.baselines.duo_attention import DuoAttention
from longgen.evaluation.baselines.h2o import H2O
from longgen.evaluation.baselines.lm_infinite import LMInfinite
from longgen.evaluation.baselines.method import Method, check_count, full_kv_bytes, token_bytes
from longgen.evaluation.baselines.pyramidkv import PyramidKV
from longgen.evaluation.baselines.sink_window import SinkWindow
from longgen.evaluation.baselines.snapkv import SnapKV
from longgen.evaluation.baselines.streaming_llm import StreamingLLM
from longgen.evaluation.baselines.tova import TOVA

METHODS: dict[str, type[Method]] = {
    names.SINK_WINDOW: SinkWindow,
    names.LM_INFINITE: LMInfinite,
    names.STREAMING_LLM: StreamingLLM,
    names.SNAPKV: SnapKV,
    names.PYRAMIDKV: PyramidKV,
    names.TOVA: TOVA,
    names.H2O: H2O,
    names.DUO_ATTENTION: DuoAttention,
}


class BudgetedMethod(NamedTuple):
    """A method with sizes for a budget.

    Attributes:
        method: with its sizes.
        kept_bytes: of keys and values per sequence, once a prompt of the length was read.
        full_bytes: the same without reduction.
    """

    method: Method
    kept_bytes: int
    full_bytes: int


def method_for_budget(
    name: str,
    fraction: float | Fraction,
    length: int,
    model: Any,
    **fields: Any,
) -> BudgetedMethod:
    """The method with sizes that keep as much as possible, and at most ``fraction`` of the full KV cache.

    Args:
        name: in `METHODS`.
        fraction: of the bytes that full attention keeps, above 0 and at most 1. Floats are taken as they are written,
            0.38 as 38/100; a `Fraction` of two byte counts is exact.
        length: tokens of the prompt. With that of prompt and answer, nothing is evicted at fraction 1.
        model: a longgen model. Its keys and values have the dtype of its weights, by which bytes are counted.
        **fields: of the method, such as ``window``, or the ``gates`` that DuoAttention needs.

    Raises:
        ConfigError: unknown name or field, an impossible fraction, or less than the method needs.
    """
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}: allowed are {', '.join(METHODS)}")
    check_count("length", length)
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float, Fraction)) or not 0 < fraction <= 1:
        raise ConfigError(f"fraction is {fraction!r}: allowed is above 0 and at most 1")
    config = model.config
    try:
        method = METHODS[name].for_tokens(Fraction(str(fraction)) * length, length, config, **fields)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"{name}: {error}") from error
    return BudgetedMethod(method, method.kept_tokens(length, config) * token_bytes(model), full_kv_bytes(model, length))
