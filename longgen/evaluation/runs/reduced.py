"""A full model that answers with its KV cache reduced at inference, to as much as a hybrid keeps."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from longgen.errors import ConfigError
from longgen.evaluation.baselines import Gates, method_for_budget
from longgen.evaluation.baselines import generate as generate_reduced
from longgen.evaluation.baselines.method import check_full
from longgen.evaluation.greedy import end_tokens
from longgen.evaluation.runs.predict import Generate, GreedyAnswers, PromptBatch
from longgen.files import read_json
from longgen.foreign import reading
from longgen.model import Model
from longgen.modeling.configuration import hybrid_of
from longgen.provenance import fingerprint
from longgen.shapes import ModelShape


@dataclass(frozen=True)
class KvBudget:
    """How much of its KV cache a full model keeps.

    Attributes:
        of: name of the hybrid whose bytes are kept, or the fraction as text.
        share: of the bytes; None with ``hybrid``.
        hybrid: its config.json.
    """

    of: str
    share: Fraction | None = None
    hybrid: Path | None = None

    @classmethod
    def parse(cls, text: str) -> KvBudget:
        """A fraction such as 0.38, or the folder of a hybrid.

        Raises:
            ConfigError: neither.
        """
        path = Path(text) / "config.json"
        if path.is_file():
            return cls(path.resolve().parent.name, hybrid=path)
        try:
            share = Fraction(text)
        except ValueError:
            raise ConfigError(f"--kv-budget is {text!r}: allowed is a fraction or the folder of a hybrid") from None
        if not 0 < share <= 1:
            raise ConfigError(f"--kv-budget is {text}: allowed is above 0 and at most 1")
        return cls(text, share=share)

    def identity(self) -> Any:
        """Plain data that tells budgets apart."""
        return str(self.share) if self.hybrid is None else fingerprint(read_json(self.hybrid, "longgen convert"))

    def fraction(self, length: int) -> Fraction:
        """Share of the full cache's bytes after a prompt of ``length`` tokens.

        Raises:
            ConfigError: the folder holds no model of ours.
            ArtifactError: its config.json is damaged.
        """
        if self.hybrid is None:
            assert self.share is not None
            return self.share
        shape = ModelShape.from_hf_config(self.hybrid)
        with reading(self.hybrid, "`longgen convert --overwrite` makes the hybrid anew"):
            config = AutoConfig.from_pretrained(self.hybrid)
        hybrid = hybrid_of(config)
        kv_bytes = Model(shape, hybrid).kv_cache_bytes(length)
        tokens = shape.num_layers * shape.num_kv_heads * length
        return Fraction(kv_bytes, tokens * 2 * shape.head_dim * 2)


def reduced_identity(method: str, budget: KvBudget, gates: Gates | None) -> dict[str, Any]:
    """What determines the answers besides the model; ``method`` and ``budget_of`` name it in results."""
    identity = {"method": method, "budget_of": budget.of, "budget": budget.identity()}
    if gates is None:
        return identity
    return identity | {"gates": fingerprint([gates.gates, gates.pattern.to_dict()]), "learned": gates.settings}


def greedy_with_reduced_cache(model: Any, method: str, budget: KvBudget, gates: Gates | None = None) -> Generate:
    """Greedy continuation of a full model whose KV cache is reduced at every prompt.

    Args:
        model: longgen's, all heads full.
        method: a name in `longgen.evaluation.baselines.METHODS`.
        budget: how much is kept.
        gates: of DuoAttention, which needs them (`longgen gates`).

    Raises:
        ConfigError: an unknown method, an impossible budget, or a model that is not converted or has sparse heads.
    """
    check_full(model.config)
    fields = {} if gates is None else {"gates": gates.gates, "pattern": gates.pattern}

    def generate(batch: PromptBatch) -> GreedyAnswers:
        if not bool(batch.mask.all()):
            raise ConfigError("prompts of a batch differ in length: allowed are those of one length")
        rows, width = batch.tokens.shape
        budgeted_method = method_for_budget(method, budget.fraction(width), width, model, **fields)
        stop = [*end_tokens(model), *batch.stop]
        least = batch.min_new_tokens
        generation = generate_reduced(
            model, batch.tokens, batch.max_new_tokens, budgeted_method.method, stop, min_new_tokens=least
        )
        return GreedyAnswers(generation.tokens, generation.kept_bytes / (rows * budgeted_method.full_bytes), stop)

    return generate
