"""The part of an experiment's configuration about benchmarks: which are run, on which models, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from longgen.config.parts import Device, DuoAttentionSettings, check_choice
from longgen.hardware import ModelDtype
from longgen.names import KV_REDUCTIONS
from longgen.strict import require


@dataclass(frozen=True)
class SuiteSettings:
    """The prompts of one benchmark (`longgen benchmark prepare`).

    Attributes:
        samples: of every task and length; of needles also of every depth.
        lengths: tokens of prompt and answer; null: prompts have their natural length.
        tasks: which are asked; null: all.
        depths: where needles stand, 0 to 1; null: five of them.
        data_root: folder with the benchmark's own data, or ``hub:``; null: stand-in data, whose scores are none.
    """

    samples: int
    lengths: list[int] | None = None
    tasks: list[str] | None = None
    depths: list[float] | None = None
    data_root: str | None = None

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", self.samples, "a whole number >= 1")
        for name in ("lengths", "tasks", "depths"):
            value = getattr(self, name)
            are_distinct = value is None or (len(value) > 0 and len(set(value)) == len(value))
            require(are_distinct, name, value, "null, or at least one, each once")


@dataclass(frozen=True)
class ReducedSettings:
    """The full model with its KV cache reduced at inference, answering the prompts of some suites.

    Attributes:
        methods: names in `longgen.names.KV_REDUCTIONS`.
        budgets_of: variants; as many bytes as each keeps.
        suites: whose prompts are answered, names in ``suites`` of the benchmarks; null: all of them.
        duo_attention: for the method of that name.
    """

    methods: list[str]
    budgets_of: list[str]
    suites: list[str] | None = None
    duo_attention: DuoAttentionSettings = field(default_factory=DuoAttentionSettings)

    def __post_init__(self) -> None:
        check_choice("methods", self.methods, KV_REDUCTIONS)


@dataclass(frozen=True)
class LongTextSettings:
    """Perplexity by position on long text (`longgen perplexity`).

    Attributes:
        length: tokens of context; shorter documents are left out.
        documents: how many, the first that are long enough.
        bins: into which positions are divided.
        text: ``hub:`` for PG-19's test split, ``hub:owner/name`` for another dataset's (@revision may follow); or .txt
            files (a document each) or .jsonl files (a document per line), or a folder of either; null: stand-in text.
    """

    length: int
    documents: int
    bins: int = 32
    text: str | None = None

    def __post_init__(self) -> None:
        for name in ("length", "documents", "bins"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")


@dataclass(frozen=True)
class ShortContextSettings:
    """Short contexts through lm-eval (`longgen short-context`).

    Attributes:
        tasks: which are asked; null: `longgen.names.SHORT_CONTEXT_TASKS`.
        limit: questions of every task, the first ones; null: all.
        data_root: ``hub:``, or a folder with short-context/TASK/SPLIT.jsonl; null: stand-in data.
        batch_size: prompts computed together.
    """

    tasks: list[str] | None = None
    limit: int | None = None
    data_root: str | None = None
    batch_size: int = 1


@dataclass(frozen=True)
class BenchmarksSettings:
    """Benchmarks by their own rules, for every variant.

    Attributes:
        suites: by name in `longgen.evaluation.benchmarks.BENCHMARKS`.
        kv_reduction: baselines; null: none.
        long_text: null: not evaluated.
        short_context: null: not evaluated.
        dtype: that computes.
        device: that computes.
        shards: jobs that share a model's prompts.
        batch_tokens: tokens of prompts that are answered together; 0: one at a time.
    """

    suites: dict[str, SuiteSettings] = field(default_factory=dict)
    kv_reduction: ReducedSettings | None = None
    long_text: LongTextSettings | None = None
    short_context: ShortContextSettings | None = None
    dtype: ModelDtype = "float32"
    device: Device = "cpu"
    shards: int = 1
    batch_tokens: int = 0

    def __post_init__(self) -> None:
        require(self.shards >= 1, "shards", self.shards, "a whole number >= 1")
        require(self.batch_tokens >= 0, "batch_tokens", self.batch_tokens, "a whole number >= 0")
        has_any = bool(self.suites or self.long_text or self.short_context)
        require(has_any, "suites", self.suites, "at least one, unless long_text or short_context is given")
        require(
            self.kv_reduction is None or bool(self.suites), "kv_reduction", self.kv_reduction, "null without suites"
        )
        if self.kv_reduction is not None and self.kv_reduction.suites is not None:
            check_choice("kv_reduction.suites", self.kv_reduction.suites, self.suites)

    @property
    def reduced_suites(self) -> list[str]:
        """Those whose prompts the full model answers with its KV cache reduced."""
        if self.kv_reduction is None:
            return []
        return list(self.suites) if self.kv_reduction.suites is None else self.kv_reduction.suites
