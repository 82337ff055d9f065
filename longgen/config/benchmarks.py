"""The part of an experiment's configuration about benchmarks: which are run, on which models, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from longgen.config.parts import Device, check_choice
from longgen.hardware import ModelDtype
from longgen.names import KV_REDUCTIONS
from longgen.strict import require


@dataclass(frozen=True)
class SuiteSettings:
    """The prompts of one benchmark (`longgen benchmark prepare`).

    Attributes:
        samples: of every task and length; where prompts have a depth also of every depth.
        task_samples: of tasks that have another number of samples, by name.
        lengths: tokens of prompt and answer; null: prompts have their natural length.
        tasks: which are asked; null: all.
        depths: where in the prompt stands what is asked for, 0 to 1; null: five of them.
        data_root: folder with the benchmark's own data, or ``hub:``; null: stand-in data, whose scores are none. That
            of recall is a corpus; in an experiment the run's own, and null.
    """

    samples: int
    task_samples: dict[str, int] = field(default_factory=dict)
    lengths: list[int] | None = None
    tasks: list[str] | None = None
    depths: list[float] | None = None
    data_root: str | None = None

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", self.samples, "a whole number >= 1")
        for name, count in self.task_samples.items():
            require(count >= 1, f"task_samples.{name}", count, "a whole number >= 1")
            require(name in (self.tasks or [name]), "task_samples", name, ", ".join(self.tasks or ()))
        for depth in self.depths or ():
            require(0 <= depth <= 1, "depths", self.depths, "null, or at least one number, all within 0..1")
        for name in ("lengths", "tasks", "depths"):
            value = getattr(self, name)
            are_distinct = value is None or (len(value) > 0 and len(set(value)) == len(value))
            require(are_distinct, name, value, "null, or at least one, each once")


@dataclass(frozen=True)
class DuoAttentionSettings:
    """How DuoAttention's gates are learned on the full model (`longgen.evaluation.baselines.optimise_gates`).

    Steps and learning rate are the authors' (arXiv 2410.10819), who learn on lengths from 1,000 tokens to 32,000. The
    others are our choice.

    Attributes:
        steps: of AdamW.
        length: tokens per row; null: the longest of the extension.
        batch_size: rows per step.
        learning_rate: it does not change.
        pattern: of streaming heads, a name under ``patterns``; null: the authors' 64 sink and 256 recent tokens.
    """

    steps: int = 2000
    length: int | None = None
    batch_size: int = 1
    learning_rate: float = 0.02
    pattern: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number > 0")


@dataclass(frozen=True)
class KvReductionSettings:
    """The full model with its KV cache reduced at inference, answering prompts that the hybrids answer.

    Attributes:
        methods: names in `longgen.names.KV_REDUCTIONS`.
        budgets_of: hybrids; every method keeps as many bytes of KV cache as each of them. The pipeline takes those of
            the invocation.
        suites: whose prompts are answered, names in ``suites`` of the benchmarks; null: all of them.
        tasks: of these suites; null: all that are asked.
        lengths: of these prompts; null: all that are asked.
        duo_attention: for the method of that name.
    """

    methods: list[str]
    budgets_of: list[str]
    suites: list[str] | None = None
    tasks: list[str] | None = None
    lengths: list[int] | None = None
    duo_attention: DuoAttentionSettings = field(default_factory=DuoAttentionSettings)

    def __post_init__(self) -> None:
        check_choice("methods", self.methods, KV_REDUCTIONS)


@dataclass(frozen=True)
class PerplexitySettings:
    """Perplexity by position (`longgen perplexity`).

    Attributes:
        length: tokens of context; shorter documents are left out.
        documents: how many, the first that are long enough.
        bins: into which positions are divided.
        text: ``hub:`` for PG-19's test split, ``hub:owner/name`` for another dataset's (@revision may follow); or .txt
            files (a document each) or .jsonl files (a document per line), or a folder of either, or of a corpus, whose
            held-out text is read; null: that of the run's own corpus, or where it has none stand-in text.
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
        perplexity: null: not evaluated.
        short_context: null: not evaluated.
        dtype: that computes.
        device: that computes.
        shards: jobs that share a model's prompts.
        batch_tokens: tokens of prompts that are answered together; 0: one at a time.
    """

    FORMER: ClassVar = {"long_text": "allowed is perplexity, with the same keys"}

    suites: dict[str, SuiteSettings] = field(default_factory=dict)
    kv_reduction: KvReductionSettings | None = None
    perplexity: PerplexitySettings | None = None
    short_context: ShortContextSettings | None = None
    dtype: ModelDtype = "float32"
    device: Device = "cpu"
    shards: int = 1
    batch_tokens: int = 0

    def __post_init__(self) -> None:
        require(self.shards >= 1, "shards", self.shards, "a whole number >= 1")
        require(self.batch_tokens >= 0, "batch_tokens", self.batch_tokens, "a whole number >= 0")
        some = self.suites or self.perplexity or self.short_context
        require(bool(some), "suites", self.suites, "at least one, unless perplexity or short_context is given")
        has_prompts = self.kv_reduction is None or bool(self.suites)
        require(has_prompts, "kv_reduction", self.kv_reduction, "null without suites")
        if self.kv_reduction is not None:
            self._check_reduction(self.kv_reduction)

    def _check_reduction(self, reduction: KvReductionSettings) -> None:
        if reduction.suites is not None:
            check_choice("kv_reduction.suites", reduction.suites, self.suites)
        for name in ("tasks", "lengths"):
            selection = getattr(reduction, name)
            every = [getattr(self.suites[suite], name) for suite in self.reduced_suites]
            if selection is not None and None not in every:  # else the benchmark knows which there are
                offer = dict.fromkeys(each for some in every for each in some)
                is_subset = set(selection) <= set(offer) and len(set(selection)) == len(selection) > 0
                require(
                    is_subset,
                    f"kv_reduction.{name}",
                    selection,
                    f"at least one of {', '.join(map(str, offer))}, each once",
                )

    @property
    def reduced_suites(self) -> list[str]:
        """Those whose prompts the full model answers with its KV cache reduced."""
        if self.kv_reduction is None:
            return []
        return list(self.suites) if self.kv_reduction.suites is None else self.kv_reduction.suites

    @property
    def reduced_shards(self) -> int:
        """Jobs that share the full model's answers by all methods: as many shards of each method, if there are any."""
        methods = len(self.kv_reduction.methods) if self.kv_reduction else 1
        return self.shards * methods if self.shards > 1 else 1
