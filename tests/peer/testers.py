"""What transformers' common tests ask of a model's own test file: sizes, configs, inputs and classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from longgen.layout import parse_layout
from longgen.modeling import longgen_classes, longgen_config
from longgen.pattern import SparsePattern
from tests.modeling.models import FAMILIES

SINK = SparsePattern(2, 1, 1)
# one full layer and one sparse layer, as the tests allow two; blocks so small that their inputs span several
PATTERNS = {
    "sink": ("bottom:1", SINK),
    "stride": ("bottom:1", SparsePattern(2, 1, 1, 3, staggered=True)),
    "heads": ("heads:1/2", SINK),
    "full": ("all", SINK),
}
BASE = "base"

# transformers' table of a kind of head -> the attribute under which the tests look for the class
TABLES = {
    "MODEL_MAPPING": "base_model_class",
    "MODEL_FOR_CAUSAL_LM_MAPPING": "causal_lm_class",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING": "sequence_classification_class",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING": "token_classification_class",
}


class Case(NamedTuple):
    """A family, and a key of `PATTERNS` or `BASE`."""

    family: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.family}-{self.pattern}"

    @property
    def class_name(self) -> str:
        """Of its test class."""
        return f"{self.family.capitalize()}{self.pattern.capitalize()}Test"


CASES = [Case(family, pattern) for family in FAMILIES for pattern in (BASE, *PATTERNS)]


class ModelTester:
    """Makes tiny configs and inputs. Attributes are those that the tests read."""

    batch_size = 13
    seq_length = 11
    is_training = True
    vocab_size = 99
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    num_key_value_heads = 2
    num_labels = 3

    def __init__(self, case: Case) -> None:
        self.case = case
        self.config_class = type(self.get_config())
        for table, attribute in TABLES.items():
            mapping = getattr(auto, table)
            # what is not registered for a hybrid is not tested for its base either
            registered = longgen_classes(case.family)[0] in mapping
            setattr(self, attribute, mapping[self.config_class] if registered else None)

    @property
    def all_model_classes(self) -> tuple[type[PreTrainedModel], ...]:
        """All that are there."""
        return tuple(filter(None, (getattr(self, attribute) for attribute in TABLES.values())))

    def base_config(self) -> PretrainedConfig:
        """That of the base model."""
        own: dict[str, Any] = {"sliding_window": None} if self.case.family == "mistral" else {}
        return FAMILIES[self.case.family][0](
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=37,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=8,
            max_position_embeddings=512,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **own,
        )

    def get_config(self) -> PretrainedConfig:
        """That of the case."""
        base = self.base_config()
        if self.case.pattern == BASE:
            return base
        layout, pattern = PATTERNS[self.case.pattern]
        layers, heads = self.num_hidden_layers, self.num_key_value_heads
        return longgen_config(base, parse_layout(layout, layers, heads), pattern)

    def prepare_config_and_inputs_for_common(self) -> tuple[PretrainedConfig, dict[str, torch.Tensor]]:
        """Rows of 1, 2, ... tokens, padded on the right."""
        ids = torch.randint(0, self.vocab_size, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids).tril()}
