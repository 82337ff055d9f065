"""The configuration of an experiment: one schema for all scales (config/*.yaml), checked before any job starts."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from longgen.config.benchmarks import BenchmarksSettings, SuiteSettings
from longgen.config.cluster import ClusterSettings
from longgen.config.parts import (
    ModelSettings,
    ProbeSettings,
    ProfilingSettings,
    VariantSettings,
    check_choice,
)
from longgen.config.training import ExtensionSettings, SetupSettings, TrainingSettings
from longgen.data.sources import SOURCES, DataSettings
from longgen.data.synthetic.documents import DOCUMENTS
from longgen.errors import ConfigError
from longgen.evaluation.benchmarks import BENCHMARKS, WITH_DEPTHS, benchmark
from longgen.evaluation.recall import SHORTEST_LENGTH
from longgen.gpus import GPUS
from longgen.hybrid import Hybrid
from longgen.layout import HEADS, PROBED, PROBED_HEADS, Layout, count_full_layers, make_layout
from longgen.pattern import SparsePattern, dense_pairs
from longgen.results import check_run_name
from longgen.strict import build, load_configuration, require

Part = TypeVar("Part")


@dataclass(frozen=True)
class Variant:
    """A variant resolved for a model: what conversion, planner and profiler need.

    Attributes:
        name: under ``variants``.
        layout: what stays full; where that is ``probed``, another layout with as many full layers, or heads: costs
            depend on their number alone.
        pattern: of sparse layers.
        placement: as configured.
        pattern_name: under ``patterns``, or ``none``.
        training_attention: as configured.
        trained: as configured.
        probed: which layout to take from the record of a probe, such as ``probed:1/6``; None where ``layout`` is it.
    """

    name: str
    layout: Layout
    pattern: SparsePattern
    placement: str
    pattern_name: str
    training_attention: str = "full"
    trained: bool = field(default=True, repr=False)  # untrained variants have no fingerprint but their conversion's
    probed: str | None = field(default=None, repr=False)  # placement and layout say it, and are in fingerprints already

    @property
    def hybrid(self) -> Hybrid:
        """Layout and pattern together."""
        return Hybrid(self.layout, self.pattern)


@dataclass(frozen=True)
class Experiment:
    """A whole configuration file. `load_experiment` makes it; cross-checks are in ``__post_init__``.

    Attributes:
        name: of the run.
        model: the base model.
        extension: long-context fine-tuning of its hybrids.
        patterns: of sparse layers, by name.
        variants: the hybrids, by name.
        default_variants: those of a run that selects none.
        data: the text of the base model, of generated rows and of recall.
        base: how the base model is trained, unless it is a checkpoint.
        probe: which layers of the base model need full attention; null: not asked.
        profiling: null: not measured.
        benchmarks: how models are evaluated; null: not at all.
        setups: by name, processes and how they share the work of training.
        setup: the one that is used unless another is named.
        cluster: what jobs request of it; no result depends on it.
        seed: of all random choices.
    """

    FORMER: ClassVar = {
        "evaluation": "allowed is benchmarks, with suites.recall (lengths, depths and tasks as they were; samples was "
        "task_samples, task_samples: {needle: N} was samples_per_cell), perplexity (documents and bins were "
        "perplexity_documents and perplexity_bins; length was the longest), kv_reduction, device, dtype, and "
        "batch_tokens for batch_size; config/smoke.yaml has all of them"
    }

    name: str
    model: ModelSettings
    extension: ExtensionSettings
    patterns: dict[str, SparsePattern]
    variants: dict[str, VariantSettings]
    default_variants: list[str]
    data: DataSettings | None = None
    base: TrainingSettings | None = None
    probe: ProbeSettings | None = None
    profiling: ProfilingSettings | None = None
    benchmarks: BenchmarksSettings | None = None
    setups: dict[str, SetupSettings] = field(default_factory=lambda: {"default": SetupSettings()})
    setup: str = "default"
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        check_run_name(self.name)
        require(len(self.patterns) > 0, "patterns", self.patterns, "at least one pattern")
        self._check_names()
        for name in self.patterns:
            self._check_pattern(name)
        for name, settings in self.variants.items():
            self.variant(name)
            require(
                settings.trained or self.model.checkpoint is not None,
                f"variants.{name}.trained",
                False,
                "true without a model.checkpoint",
            )
        self._check_probe()
        self._check_lengths()
        self._check_stages()

    @property
    def base_length(self) -> int:
        """Length at which the base model was trained, in tokens."""
        return self.base.max_length if self.base else self.model.max_position_embeddings or 0

    @property
    def probed_placements(self) -> tuple[str, ...]:
        """Those of ``probed`` and ``probed-heads`` that variants have; where none has either, ``probed`` if there is a
        ``probe`` all the same.
        """
        if self.probe is None:
            return ()
        placements = {settings.placement for settings in self.variants.values()}
        return tuple(name for name in (PROBED, PROBED_HEADS) if name in placements) or (PROBED,)

    @property
    def probe_pattern(self) -> SparsePattern:
        """The pattern with which the base model is probed."""
        name = require_part(self.probe, "probe").pattern or next(iter(self.patterns))
        return self.patterns[name]

    @property
    def recall(self) -> SuiteSettings | None:
        """What models of bytes are asked of the benchmark of that name; None: it is not asked."""
        return self.benchmarks.suites.get("recall") if self.benchmarks else None

    @property
    def stages(self) -> dict[str, TrainingSettings]:
        """The training stages by name, in order."""
        return ({"base": self.base} if self.base else {}) | {"extension": self.extension}

    def _check_stages(self) -> None:
        allowed = "none with a model.checkpoint" if self.model.checkpoint else "a stage, or give a model.checkpoint"
        require((self.base is None) == (self.model.checkpoint is not None), "base", self.base, allowed)
        for name, stage in self.stages.items():
            layers, exit_layers = self.model.num_hidden_layers, stage.early_exit_layers
            is_inside = exit_layers is None or exit_layers < layers
            require(is_inside, f"{name}.early_exit_layers", exit_layers, f"1..{layers - 1} or null")
            require(name == "extension" or stage.lora is None, f"{name}.lora", stage.lora, "null: all weights are new")
        generated = any(stage.packed is None for stage in self.stages.values())
        needs_text = generated or self.recall is not None
        require(self.data is not None or not needs_text, "data", None, "the sources of the text")
        self._check_reductions()
        require(self.setup in self.setups, "setup", self.setup, ", ".join(self.setups))

    def _check_reductions(self) -> None:
        hybrids = [name for name in self.variants if self.variant(name).layout.num_sparse]
        reduction = self.benchmarks.kv_reduction if self.benchmarks else None
        if reduction is not None:
            key, pattern = "benchmarks.kv_reduction", reduction.duo_attention.pattern
            check_choice(f"{key}.budgets_of", reduction.budgets_of, hybrids)
            is_known = pattern in (None, *self.patterns)
            require(is_known, f"{key}.duo_attention.pattern", pattern, f"null, {', '.join(self.patterns)}")

    def _check_names(self) -> None:
        by_lower_case: dict[str, str] = {}
        for name in self.variants:
            is_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None
            require(is_name, "variants", name, "letters, digits, '.', '_' and '-' in a name")
            other = by_lower_case.setdefault(name.lower(), name)
            if other != name:
                raise ConfigError(f"variants.{name} clashes with variants.{other}: names must differ in more than case")
        for index, name in enumerate(self.default_variants):
            require(name in self.variants, f"default_variants[{index}]", name, f"one of {', '.join(self.variants)}")
        defaults = self.default_variants
        require("full" in defaults, "default_variants", defaults, "a list with 'full', the baseline")
        require(len(set(defaults)) == len(defaults), "default_variants", defaults, "each name once")
        full = self.variant("full")
        require(full.layout.num_sparse == 0, "variants.full.full_layers", self.variants["full"].full_layers, "all")
        any_trained = any(settings.trained for settings in self.variants.values())
        require(
            full.trained or not any_trained,
            "variants.full.trained",
            False,
            "true where another variant is trained: it is the baseline",
        )
        attention = full.training_attention
        require(attention == "full", "variants.full.training_attention", attention, "full: it is the baseline")

    def _check_pattern(self, name: str) -> None:
        pattern, longest = self.patterns[name], self.extension.max_length
        pairs = pattern.attended_pairs(longest)
        if pairs == dense_pairs(longest):
            raise ConfigError(
                f"patterns.{name} is {pattern.to_dict()}: it sees every token at the longest training length "
                f"{longest}; allowed are sizes that leave some block out of sight"
            )
        if pattern.stride and pairs == pattern.without_stride().attended_pairs(longest):
            first, last = pattern.sink_blocks + 1, longest // pattern.block_size - pattern.local_blocks
            raise ConfigError(
                f"patterns.{name}.stride is {pattern.stride}: it never fires within {longest} tokens; "
                f"allowed is 0, or a number with a multiple within {first}..{last}"
            )

    def _check_probe(self) -> None:
        for name, settings in self.variants.items():
            placement = settings.placement
            needs_probe = placement in (PROBED, PROBED_HEADS)
            key, allowed = f"variants.{name}.placement", "one without a probe, or give a `probe`"
            require(self.probe is not None or not needs_probe, key, placement, allowed)
            # which heads they are would change what staggered ones cost
            is_staggered = placement == PROBED_HEADS and self.variant(name).pattern.staggered
            key, allowed = f"variants.{name}.pattern", "one that is not staggered with probed-heads"
            require(not is_staggered, key, settings.pattern, allowed)
        if self.probe is not None:
            names = ", ".join(self.patterns)
            require(self.probe.pattern in (None, *self.patterns), "probe.pattern", self.probe.pattern, f"null, {names}")
            longest = self.base_length
            allowed = f"at most {longest}, the length of the base model"
            require(self.probe.length <= longest, "probe.length", self.probe.length, allowed)
            try:
                count_full_layers(self.model.num_hidden_layers, self.probe.full_layers)
            except ConfigError as error:
                raise ConfigError(f"probe.{error}") from None

    def _check_lengths(self) -> None:
        sizes = {name: pattern.block_size for name, pattern in self.patterns.items()}
        checked = {f"extension.phases[{i}].length": phase.length for i, phase in enumerate(self.extension.phases)}
        compared = {"profiling.lengths": self.profiling.lengths} if self.profiling else {}
        if self.recall is not None and self.recall.lengths is not None:
            compared["benchmarks.suites.recall.lengths"] = self.recall.lengths
        trained_at = {"profiling.training_lengths": self.profiling.training_lengths} if self.profiling else {}
        for key, lengths in (compared | trained_at).items():
            checked |= {f"{key}[{i}]": length for i, length in enumerate(lengths)}
        for key, length in checked.items():
            for name, size in sizes.items():
                allowed = f"a multiple of the block size {size} of patterns.{name}"
                require(length > 0 and length % size == 0, key, length, allowed)
        trained = self.extension.max_length
        allowed = f"a list with the longest length of the extension, {trained}: quality and speed are compared there"
        for key, lengths in compared.items():
            require(trained in lengths, key, lengths, allowed)

    def variant(self, name: str) -> Variant:
        """The variant called ``name``, resolved for this model. Raises ConfigError if unknown or impossible."""
        if name not in self.variants:
            raise ConfigError(f"variant is {name!r}: allowed are {', '.join(self.variants)}")
        settings = self.variants[name]
        key = f"variants.{name}"
        try:
            layers, kv_heads = self.model.num_hidden_layers, self.model.num_key_value_heads
            # what a probe chooses costs as much as any other layout of as many full layers or heads
            placement = {PROBED: "middle", PROBED_HEADS: HEADS}.get(settings.placement, settings.placement)
            layout = make_layout(layers, settings.full_layers, placement, kv_heads)
        except ConfigError as error:
            raise ConfigError(f"{key}.{error}") from None
        pattern_name = settings.pattern
        if pattern_name not in self.patterns and (layout.num_sparse or pattern_name is not None):
            raise ConfigError(f"{key}.pattern is {pattern_name!r}: allowed are {', '.join(self.patterns)}")
        attention, all_full = settings.training_attention, layout.num_full == layers
        require(attention == "full" or all_full, f"{key}.training_attention", attention, "full unless all layers are")
        # a full model has no sparse layer, but its config carries a pattern all the same
        pattern = next(iter(self.patterns.values())) if pattern_name is None else self.patterns[pattern_name]
        probed = f"{settings.placement}:{settings.full_layers}" if placement != settings.placement else None
        names = settings.placement, pattern_name or "none"
        return Variant(name, layout, pattern, *names, attention, settings.trained, probed)

    def setup_named(self, name: str | None) -> SetupSettings:
        """The set-up called ``name``, or the configuration's own choice. Raises ConfigError if unknown."""
        name = name or self.setup
        require(name in self.setups, "--setup", name, ", ".join(self.setups))
        return self.setups[name]

    def section(self, *names: str) -> dict[str, Any]:
        """The named top-level parts as plain data: what a step depends on (for fingerprints and Snakemake params)."""
        whole = dataclasses.asdict(self)
        return {name: whole[name] for name in names}


def require_part(part: Part | None, name: str) -> Part:
    """``part`` of the configuration, which a step cannot do without, though others can.

    Raises:
        ConfigError: it is absent.
    """
    if part is None:
        raise ConfigError(f"{name} is missing: the configuration has no such part, and this step needs it")
    return part


def load_experiment(path: Path | str) -> Experiment:
    """Read and check a configuration file, which may extend another (`longgen.strict.load_configuration`).

    Raises:
        ConfigError: with the file, the key, the value and what is allowed.
    """
    value, origin = load_configuration(path)
    try:
        experiment: Experiment = build(Experiment, value, "")
        _check_names_in_registries(experiment)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    return experiment


def _check_names_in_registries(experiment: Experiment) -> None:
    require(experiment.cluster.gpu in GPUS, "cluster.gpu", experiment.cluster.gpu, ", ".join(GPUS))
    for index, source in enumerate(experiment.data.sources if experiment.data else ()):
        require(source.kind in SOURCES, f"data.sources[{index}].kind", source.kind, ", ".join(SOURCES))
    for name, stage in experiment.stages.items():
        for index, phase in enumerate(stage.phases):
            for kind in phase.mixture:
                require(kind in DOCUMENTS, f"{name}.phases[{index}].mixture", kind, ", ".join(DOCUMENTS))
    _check_suites(experiment)


def _check_suites(experiment: Experiment) -> None:
    for name, suite in (experiment.benchmarks.suites if experiment.benchmarks else {}).items():
        key = f"benchmarks.suites.{name}"
        require(name in BENCHMARKS, "benchmarks.suites", name, ", ".join(BENCHMARKS))
        for index, task in enumerate(suite.tasks or ()):
            require(task in benchmark(name).tasks, f"{key}.tasks[{index}]", task, ", ".join(benchmark(name).tasks))
        for task in suite.task_samples:
            require(task in benchmark(name).tasks, f"{key}.task_samples", task, ", ".join(benchmark(name).tasks))
        deep = suite.depths is None or name in WITH_DEPTHS
        require(deep, f"{key}.depths", suite.depths, f"null: {' and '.join(WITH_DEPTHS)} alone have depths")
        natural = name in ("longbench", "babilong")
        require(suite.lengths is not None or natural, f"{key}.lengths", None, "at least one length")
    if experiment.recall is not None:
        _check_recall(experiment, experiment.recall)


def _check_recall(experiment: Experiment, recall: SuiteSettings) -> None:
    key = "benchmarks.suites.recall"
    checkpoint = experiment.model.checkpoint
    require(checkpoint is None, key, f"of {checkpoint}", "null with a model.checkpoint: it is asked of models of bytes")
    require(recall.data_root is None, f"{key}.data_root", recall.data_root, "null: the run's own corpus")
    for index, length in enumerate(recall.lengths or ()):
        allowed = f"at least {SHORTEST_LENGTH}: the tasks' statements need that room"
        require(length >= SHORTEST_LENGTH, f"{key}.lengths[{index}]", length, allowed)
    reduction, longest = experiment.benchmarks and experiment.benchmarks.kv_reduction, experiment.extension.max_length
    row = reduction.duo_attention.length if reduction else None
    name, allowed = "benchmarks.kv_reduction.duo_attention.length", f"null, or {SHORTEST_LENGTH}..{longest}"
    require(row is None or SHORTEST_LENGTH <= row <= longest, name, row, allowed)
