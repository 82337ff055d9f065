"""The parts of an experiment's configuration other than training: model, variants, probe, profiling."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from longgen.data.synthetic.vocabulary import VOCABULARY_SIZE
from longgen.layout import FULL_LAYERS, HEADS, PLACEMENT, PLACEMENTS, PROBED, PROBED_HEADS
from longgen.strict import require

# What trains, evaluates and measures.
Device = Literal["cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]


def check_choice(key: str, names: Sequence[str], allowed: Collection[str]) -> None:
    """Raise ConfigError unless ``names`` are one or several of ``allowed``, each once."""
    are_distinct = len(set(names)) == len(names)
    require(
        len(names) > 0 and are_distinct and set(names) <= set(allowed),
        key,
        names,
        f"at least one of {', '.join(allowed)}, each once",
    )


@dataclass(frozen=True)
class ModelSettings:
    """Shape of the base model, in the names of a Hugging Face Llama config.

    ``checkpoint`` is a folder or hub id of a trained base model: then there is no stage ``base``, and
    ``max_position_embeddings`` is the length, in tokens, that it was trained at. Without it the base model is trained
    from random weights, over bytes, at the lengths of stage ``base``: normal ones of standard deviation
    ``initializer_range``, and ``residual_initializer_range``, where it is not None, for the two matrices of a layer
    that add to the residual stream (``o_proj`` and ``down_proj``).
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02
    residual_initializer_range: float | None = None
    vocab_size: int = VOCABULARY_SIZE
    checkpoint: str | None = None
    max_position_embeddings: int | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        require(self.hidden_size % heads == 0, "hidden_size", self.hidden_size, f"a multiple of {heads} heads")
        require(
            self.hidden_size // heads % 2 == 0, "hidden_size", self.hidden_size, "such that head_dim is even (RoPE)"
        )
        require(
            kv_heads >= 1 and heads % kv_heads == 0,
            "num_key_value_heads",
            kv_heads,
            f"a divisor of num_attention_heads ({heads})",
        )
        require(self.rope_theta > 1, "rope_theta", self.rope_theta, "a number > 1")
        require(self.initializer_range > 0, "initializer_range", self.initializer_range, "a number > 0")
        residual = self.residual_initializer_range
        require(
            residual is None or residual >= 0,
            "residual_initializer_range",
            residual,
            "a number >= 0, or null for initializer_range",
        )
        require(
            self.vocab_size >= 1 and (self.checkpoint is not None or self.vocab_size == VOCABULARY_SIZE),
            "vocab_size",
            self.vocab_size,
            f"{VOCABULARY_SIZE}, bytes, without a checkpoint",
        )
        length = self.max_position_embeddings
        require(
            length is None if self.checkpoint is None else length is not None and length >= 1,
            "max_position_embeddings",
            length,
            "a whole number >= 1 with a checkpoint, null without",
        )


@dataclass(frozen=True)
class VariantSettings:
    """A hybrid: how many layers stay full, where, and the pattern of the others (a name under ``patterns``).

    ``training_attention: shifted`` trains full layers with LongLoRA's shifted groups of tokens instead
    (`longgen.modeling.shifted`); what is evaluated has full attention. Placements ``probed`` and ``probed-heads`` are
    the choice of `longgen probe` on the base model, as ``probe`` of the experiment sets it. ``trained: false`` leaves a
    checkpoint as it is, positions included: what a layout costs without any training (our choice of a baseline).
    """

    full_layers: int | float | str
    placement: str = PLACEMENT
    pattern: str | None = None
    training_attention: Literal["full", "shifted"] = "full"
    trained: bool = True

    def __post_init__(self) -> None:
        placements = (*PLACEMENTS, HEADS, PROBED, PROBED_HEADS)
        require(self.placement in placements, "placement", self.placement, ", ".join(placements))


@dataclass(frozen=True)
class ProbeSettings:
    """How `longgen probe` measures which layers of the base model need full attention, with its defaults.

    Attributes:
        length: tokens of a prompt.
        prompts: how many.
        facts: in each prompt.
        text: a .txt file, or a folder of them (or .jsonl); null: Python's standard library and manual.
        pattern: of the sparse layers, a name under ``patterns``; null: the first.
        full_layers: full layers that are chosen greedily: 10, 1/3 ...
        candidates: the highest ranked layers among which they are chosen; null: all.
        device: that computes.
        dtype: of weights and activations.
    """

    length: int = 2048
    prompts: int = 8
    facts: int = 8
    text: str | None = None
    pattern: str | None = None
    full_layers: int | float | str = FULL_LAYERS
    candidates: int | None = 12
    device: Device = "cpu"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("prompts", 2), ("facts", 1)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"a whole number >= {least}")
        candidates = self.candidates
        require(candidates is None or candidates >= 1, "candidates", candidates, "a whole number >= 1, or null for all")


@dataclass(frozen=True)
class ProfilingSettings:
    """Speed and memory: lengths in tokens; every timing is repeated, variants taking turns, on ``threads`` cores.

    On ``device``, with weights, activations, gradients and KV cache in ``dtype``.
    """

    lengths: list[int]
    training_lengths: list[int]
    threads: int = 2
    decode_tokens: int = 32
    repeats: int = 5
    device: Device = "cpu"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        for name in ("lengths", "training_lengths"):
            require(len(getattr(self, name)) > 0, name, getattr(self, name), "at least one length")
        for name in ("threads", "decode_tokens"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        require(self.repeats >= 3, "repeats", self.repeats, "a whole number >= 3 (medians and intervals)")
