"""DuoAttention: some heads keep everything, the others a sink and recent tokens."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from transformers import PretrainedConfig

from longgen.errors import ConfigError
from longgen.evaluation.baselines.method import check_count, kv_heads_of
from longgen.evaluation.baselines.patterned import PatternedMethod
from longgen.hybrid import Hybrid
from longgen.layout import Layout
from longgen.pattern import SparsePattern

# Sink and recent tokens of the authors' streaming heads, 64 and 256, in blocks: 256 to 319 before a query's own.
STREAMING = SparsePattern(block_size=64, sink_blocks=1, local_blocks=5)


@dataclass(frozen=True)
class DuoAttention(PatternedMethod):
    """DuoAttention (Xiao et al. 2024, arXiv 2410.10819, section 2).

    The KV heads whose gates are highest are retrieval heads and keep all tokens; the others are streaming heads. A gate
    says how much full attention a head needs (`longgen.evaluation.baselines.optimise_gates`). Streaming heads read
    the prompt as they decode: the paper's chunked prefill, with chunks of a token.

    Attributes:
        gates: for every layer from the bottom up, one number per KV head.
        retrieval_heads: how many, over all layers.
        pattern: of streaming heads.

    Raises:
        ConfigError: more retrieval heads than gates.
    """

    gates: tuple[tuple[float, ...], ...]
    retrieval_heads: int
    pattern: SparsePattern = STREAMING

    def __post_init__(self) -> None:
        check_count("retrieval_heads", self.retrieval_heads, 0)
        total = sum(len(layer) for layer in self.gates)
        if self.retrieval_heads > total:
            raise ConfigError(f"retrieval_heads is {self.retrieval_heads}: allowed are at most {total}, one per gate")

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """As many retrieval heads as fit in beside the streaming heads; ``fields`` must have the gates."""
        if "gates" not in fields:
            raise ConfigError("gates are missing: allowed is what `optimise_gates` gives for the model")
        heads, streaming = kv_heads_of(config), fields.get("pattern", STREAMING).kept_count(length)
        spare_tokens = heads * (tokens - streaming)
        if spare_tokens < 0:
            raise ConfigError(
                f"the budget is {float(tokens):.6g} tokens per KV head: streaming heads alone have {streaming}"
            )
        return cls(retrieval_heads=int(spare_tokens / (length - streaming)) if streaming < length else heads, **fields)

    def hybrid(self, config: PretrainedConfig) -> Hybrid:
        """Retrieval heads full.

        Raises:
            ConfigError: the gates are of another model.
        """
        expected = [config.num_key_value_heads] * config.num_hidden_layers
        if [len(layer) for layer in self.gates] != expected:
            raise ConfigError(f"gates are of {[len(layer) for layer in self.gates]} KV heads: the model has {expected}")
        places = [(layer, head) for layer, gates in enumerate(self.gates) for head in range(len(gates))]
        places.sort(key=lambda place: -self.gates[place[0]][place[1]])
        retrieval = set(places[: self.retrieval_heads])
        flags = [
            tuple((layer, head) in retrieval for head in range(len(gates))) for layer, gates in enumerate(self.gates)
        ]
        return Hybrid(Layout(tuple(flags)), self.pattern)
