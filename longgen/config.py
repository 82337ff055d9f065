"""The configuration of an experiment: one schema for all scales (config/*.yaml), checked before any job starts."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from longgen.errors import ConfigError
from longgen.layout import HEADS, PLACEMENTS, Layout, make_layout
from longgen.pattern import SparsePattern, dense_pairs
from longgen.results import check_run_name
from longgen.strict import build, load_yaml, require


@dataclass(frozen=True)
class SourceSettings:
    """One corpus. ``kind`` names a loader of `longgen.data.sources`; ``path`` is for those that read files."""

    kind: str
    path: str | None = None


@dataclass(frozen=True)
class DataSettings:
    """Text, tokenizer and held-out split."""

    sources: list[SourceSettings]
    tokenizer: Literal["bytes"] = "bytes"
    heldout_fraction: float = 0.1

    def __post_init__(self) -> None:
        require(len(self.sources) > 0, "sources", self.sources, "at least one source")
        require(0 < self.heldout_fraction < 1, "heldout_fraction", self.heldout_fraction, "a number within 0..1")


@dataclass(frozen=True)
class ModelSettings:
    """Shape of the base model, in the names of a Hugging Face Llama config."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

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


@dataclass(frozen=True)
class PhaseSettings:
    """A stretch of training at one length.

    ``mixture`` gives the share of each kind of document (a name in `longgen.data.documents.DOCUMENTS`). The learning
    rate warms up linearly over ``warmup_steps``, then stays, and over the last ``decay_steps`` falls linearly to
    ``final_learning_rate_ratio`` of itself.
    """

    length: int
    batch_size: int
    steps: int
    learning_rate: float
    mixture: dict[str, float]
    warmup_steps: int = 0
    decay_steps: int = 0
    final_learning_rate_ratio: float = 0.1

    def __post_init__(self) -> None:
        for name in ("length", "batch_size", "steps"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number > 0")
        for name in ("warmup_steps", "decay_steps"):
            require(0 <= getattr(self, name) <= self.steps, name, getattr(self, name), f"0..{self.steps}")
        ratio = self.final_learning_rate_ratio
        require(0 <= ratio <= 1, "final_learning_rate_ratio", ratio, "a number within 0..1")
        total = sum(self.mixture.values())
        fits = all(share >= 0 for share in self.mixture.values()) and abs(total - 1) < 1e-6
        require(fits, "mixture", self.mixture, "shares >= 0 that add up to 1")


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer of a training stage; see `longgen.training.optimizer`."""

    name: Literal["adamw", "muon"] = "adamw"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.01
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        fits = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(fits, "betas", self.betas, "two numbers within 0..1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number >= 0")
        require(self.gradient_clip > 0, "gradient_clip", self.gradient_clip, "a number > 0")


@dataclass(frozen=True)
class TrainingSettings:
    """A training stage: phases in order, one optimizer.

    ``early_exit_layers`` adds the loss of predicting from the hidden state after that many layers (the early-exit loss
    of LayerSkip, Elhoushi et al. 2024, arXiv 2404.16710). Large pretrained models retrieve in middle layers (Wu et al.
    2024, arXiv 2404.15574); a six-layer one trained from scratch does so in its last two, unless it must answer sooner.
    """

    phases: list[PhaseSettings]
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    checkpoint_every: int = 100
    early_exit_layers: int | None = None
    keep_checkpoints: int = 1

    def __post_init__(self) -> None:
        require(len(self.phases) > 0, "phases", self.phases, "at least one phase")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "a whole number >= 1")
        require(self.keep_checkpoints >= 1, "keep_checkpoints", self.keep_checkpoints, "a whole number >= 1")
        exit_layers = self.early_exit_layers
        require(
            exit_layers is None or exit_layers >= 1, "early_exit_layers", exit_layers, "a whole number >= 1 or null"
        )

    @property
    def max_length(self) -> int:
        """Longest phase, in tokens."""
        return max(phase.length for phase in self.phases)


@dataclass(frozen=True)
class ExtensionSettings(TrainingSettings):
    """Long-context fine-tuning; ``rope`` extends RoPE (`longgen.modeling.rope`), ``rope_theta`` is for abf."""

    rope: Literal["abf", "linear", "ntk", "yarn"] = "abf"
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rope_theta > 1, "rope_theta", self.rope_theta, "a number > 1")
        unused = self.rope == "abf" or self.rope_theta == ExtensionSettings.rope_theta
        require(unused, "rope_theta", self.rope_theta, f"none with rope {self.rope}, which follows from the lengths")


@dataclass(frozen=True)
class VariantSettings:
    """A hybrid: how many layers stay full, where, and the pattern of the others (a name under ``patterns``)."""

    full_layers: int | float | str
    placement: str = "middle"
    pattern: str | None = None

    def __post_init__(self) -> None:
        placements = (*PLACEMENTS, HEADS)
        require(self.placement in placements, "placement", self.placement, ", ".join(placements))


@dataclass(frozen=True)
class EvaluationSettings:
    """What is asked of every fine-tuned variant. Lengths in tokens, depths as fractions of the context."""

    lengths: list[int]
    depths: list[float]
    samples_per_cell: int
    tasks: list[str]
    task_samples: int
    perplexity_documents: int
    perplexity_bins: int = 16
    batch_size: int = 8

    def __post_init__(self) -> None:
        require(len(self.lengths) > 0, "lengths", self.lengths, "at least one length")
        fits = len(self.depths) > 0 and all(0 <= depth <= 1 for depth in self.depths)
        require(fits, "depths", self.depths, "at least one number, all within 0..1")
        for name in ("samples_per_cell", "task_samples", "perplexity_documents", "perplexity_bins", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")


@dataclass(frozen=True)
class ProfilingSettings:
    """Speed and memory: lengths in tokens; every timing is repeated, variants taking turns, on ``threads`` cores."""

    lengths: list[int]
    training_lengths: list[int]
    threads: int = 2
    decode_tokens: int = 32
    repeats: int = 5

    def __post_init__(self) -> None:
        for name in ("lengths", "training_lengths"):
            require(len(getattr(self, name)) > 0, name, getattr(self, name), "at least one length")
        for name in ("threads", "decode_tokens"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        require(self.repeats >= 3, "repeats", self.repeats, "a whole number >= 3 (medians and intervals)")


@dataclass(frozen=True)
class Variant:
    """A variant resolved for a model: what conversion, planner and profiler need."""

    name: str
    layout: Layout
    pattern: SparsePattern
    placement: str
    pattern_name: str


@dataclass(frozen=True)
class Experiment:
    """A whole configuration file. `load_experiment` makes it; cross-checks are in ``__post_init__``."""

    name: str
    data: DataSettings
    model: ModelSettings
    base: TrainingSettings
    extension: ExtensionSettings
    patterns: dict[str, SparsePattern]
    variants: dict[str, VariantSettings]
    default_variants: list[str]
    evaluation: EvaluationSettings
    profiling: ProfilingSettings
    seed: int = 0

    def __post_init__(self) -> None:
        check_run_name(self.name)
        require(len(self.patterns) > 0, "patterns", self.patterns, "at least one pattern")
        self._check_names()
        for name in self.patterns:
            self._check_pattern(name)
        for name in self.variants:
            self.variant(name)
        self._check_lengths()
        for stage in ("base", "extension"):
            layers, exit_layers = self.model.num_hidden_layers, getattr(self, stage).early_exit_layers
            fits = exit_layers is None or exit_layers < layers
            require(fits, f"{stage}.early_exit_layers", exit_layers, f"1..{layers - 1} or null")

    def _check_names(self) -> None:
        folded: dict[str, str] = {}
        for name in self.variants:
            fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None
            require(fits, "variants", name, "letters, digits, '.', '_' and '-' in a name")
            other = folded.setdefault(name.lower(), name)
            if other != name:
                raise ConfigError(f"variants.{name} clashes with variants.{other}: names must differ in more than case")
        for index, name in enumerate(self.default_variants):
            require(name in self.variants, f"default_variants[{index}]", name, f"one of {', '.join(self.variants)}")
        defaults = self.default_variants
        require("full" in defaults, "default_variants", defaults, "a list with 'full', the baseline")
        require(len(set(defaults)) == len(defaults), "default_variants", defaults, "each name once")
        full = self.variant("full")
        require(full.layout.num_sparse == 0, "variants.full.full_layers", self.variants["full"].full_layers, "all")

    def _check_pattern(self, name: str) -> None:
        pattern, longest = self.patterns[name], self.extension.max_length
        pairs = pattern.attended_pairs(longest)
        if pairs == dense_pairs(longest):
            raise ConfigError(
                f"patterns.{name} is {pattern.to_dict()}: it sees every token at the longest training length "
                f"{longest}; allowed are sizes that leave some block out of sight"
            )
        if pattern.stride and pairs == dataclasses.replace(pattern, stride=0).attended_pairs(longest):
            first, last = pattern.sink_blocks + 1, longest // pattern.block_size - pattern.local_blocks
            raise ConfigError(
                f"patterns.{name}.stride is {pattern.stride}: it never fires within {longest} tokens; "
                f"allowed is 0, or a number with a multiple within {first}..{last}"
            )

    def _check_lengths(self) -> None:
        sizes = {name: pattern.block_size for name, pattern in self.patterns.items()}
        checked = {f"extension.phases[{i}].length": phase.length for i, phase in enumerate(self.extension.phases)}
        checked |= {f"evaluation.lengths[{i}]": length for i, length in enumerate(self.evaluation.lengths)}
        checked |= {f"profiling.lengths[{i}]": length for i, length in enumerate(self.profiling.lengths)}
        training_lengths = self.profiling.training_lengths
        checked |= {f"profiling.training_lengths[{i}]": length for i, length in enumerate(training_lengths)}
        for key, length in checked.items():
            for name, size in sizes.items():
                allowed = f"a multiple of the block size {size} of patterns.{name}"
                require(length > 0 and length % size == 0, key, length, allowed)
        trained = self.extension.max_length
        for part in ("evaluation", "profiling"):
            lengths = getattr(self, part).lengths
            allowed = (
                f"a list with the longest length of the extension, {trained}: quality and speed are compared there"
            )
            require(trained in lengths, f"{part}.lengths", lengths, allowed)

    def variant(self, name: str) -> Variant:
        """The variant called ``name``, resolved for this model. Raises ConfigError if unknown or impossible."""
        if name not in self.variants:
            raise ConfigError(f"variant is {name!r}: allowed are {', '.join(self.variants)}")
        settings = self.variants[name]
        key = f"variants.{name}"
        try:
            layers, kv_heads = self.model.num_hidden_layers, self.model.num_key_value_heads
            layout = make_layout(layers, settings.full_layers, settings.placement, kv_heads)
        except ConfigError as error:
            raise ConfigError(f"{key}.{error}") from None
        pattern_name = settings.pattern
        if pattern_name not in self.patterns and (layout.num_sparse or pattern_name is not None):
            raise ConfigError(f"{key}.pattern is {pattern_name!r}: allowed are {', '.join(self.patterns)}")
        if pattern_name is None:  # a full model has no sparse layer, but its config carries a pattern all the same
            return Variant(name, layout, next(iter(self.patterns.values())), settings.placement, "none")
        return Variant(name, layout, self.patterns[pattern_name], settings.placement, pattern_name)

    def section(self, *names: str) -> dict[str, Any]:
        """The named top-level parts as plain data: what a step depends on (for fingerprints and Snakemake params)."""
        whole = dataclasses.asdict(self)
        return {name: whole[name] for name in names}


def load_experiment(path: Path | str) -> Experiment:
    """Read and check a configuration file.

    Raises:
        ConfigError: with the file, the key, the value and what is allowed.
    """
    value = load_yaml(path)
    try:
        experiment = build(Experiment, value, "")
        _check_names_in_registries(experiment)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return experiment


def _check_names_in_registries(experiment: Experiment) -> None:
    # imported here: the registries' modules import the settings above
    from longgen.data.documents import DOCUMENTS
    from longgen.data.sources import SOURCES
    from longgen.evaluation.tasks import SHORTEST_LENGTH, TASKS

    for index, source in enumerate(experiment.data.sources):
        require(source.kind in SOURCES, f"data.sources[{index}].kind", source.kind, ", ".join(SOURCES))
    for stage in ("base", "extension"):
        for index, phase in enumerate(getattr(experiment, stage).phases):
            for kind in phase.mixture:
                require(kind in DOCUMENTS, f"{stage}.phases[{index}].mixture", kind, ", ".join(DOCUMENTS))
    for index, task in enumerate(experiment.evaluation.tasks):
        require(task in TASKS, f"evaluation.tasks[{index}]", task, ", ".join(TASKS))
    for index, length in enumerate(experiment.evaluation.lengths):
        allowed = f"at least {SHORTEST_LENGTH}: the tasks' statements need that room"
        require(length >= SHORTEST_LENGTH, f"evaluation.lengths[{index}]", length, allowed)
