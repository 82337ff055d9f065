"""Records of benchmarks, and the views of them that an experiment's own figures and claims are made of."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.records.schema import column

_SCORE_INTERVAL = "Wilson interval where samples are right or wrong, else bootstrap over samples"
_BUDGET = (
    "how the KV cache was reduced at inference, and the variant whose bytes were kept; both `none` where it was not"
)
_FRACTION = (
    "mean over samples of the bytes of KV cache after the prompt, as measured, over those of full attention; null if "
    "unknown"
)
_STAND_IN = "whether the data were made up or taken from elsewhere: such a value is no score of the benchmark"
_VALUE_INTERVAL = (
    "interval from drawing the mean of every task anew: bootstrap over its samples, Jeffreys' posterior where they are "
    "right or wrong; null for `effective-length`"
)
_BIN = "the bin of positions in the context, in tokens, end excluded"
_NLL_INTERVAL = "bootstrap interval over documents"
_SHORT_SCORE = "mean over samples within 0..1, and its interval"


@dataclass(frozen=True)
class BenchmarkRecord:
    """A cell of a benchmark: a task at a length and depth, by one metric."""

    benchmark: str = column("`recall`, `needle`, `ruler`, `babilong` or `longbench`")
    task: str = column("what was asked, and by which of the benchmark's scores")
    metric: str = column("what was asked, and by which of the benchmark's scores")
    length: int | None = column("tokens of prompt and answer; null where samples have their natural length")
    depth: float | None = column("where the needle stood, 0 is the beginning; null where nothing stands at a depth")
    n: int = column("samples")
    score: float = column("mean over samples, within 0..1")
    score_low: float = column(_SCORE_INTERVAL)
    score_high: float = column(_SCORE_INTERVAL)
    outcomes: list[float] | None = column(
        "the score of every sample, in order; null in files converted from an older format that did not have it"
    )
    stand_in: bool = column(_STAND_IN)
    method: str = column(_BUDGET)
    budget_of: str = column(_BUDGET)
    kv_fraction: float | None = column(_FRACTION)


@dataclass(frozen=True)
class SummaryRecord:
    """An average that the benchmark itself defines."""

    benchmark: str = column("as in `scores.json`")
    summary: str = column(
        "`recall`, `needle`: task and metric, a mean over cells; `ruler`: `average` of the 13 tasks, "
        "`weighted-increasing`, `weighted-decreasing`, `effective-length`; `babilong`: `average` of qa1 to qa5; "
        "`longbench`: language (`e` for LongBench-E) and category or `average`, such as `en: average`"
    )
    length: int | None = column("tokens; null: over all lengths")
    n: int = column("samples behind it")
    value: float | None = column("in `unit`; of `effective-length` null where no length reaches the threshold")
    value_low: float | None = column(_VALUE_INTERVAL)
    value_high: float | None = column(_VALUE_INTERVAL)
    unit: str = column("`percent` or `tokens`")
    stand_in: bool = column(_STAND_IN)
    method: str = column(_BUDGET)
    budget_of: str = column(_BUDGET)
    kv_fraction: float | None = column(_FRACTION)


@dataclass(frozen=True)
class PerplexityRecord:
    """Perplexity in a bin of positions."""

    source: str = column("what the text is; `held-out text` is that of the run's own corpus")
    position_start: int = column(_BIN)
    position_end: int = column(_BIN)
    n: int = column("documents, or excerpts of held-out text")
    nll: float = column("mean negative log-likelihood in nats per token")
    nll_low: float = column(_NLL_INTERVAL)
    nll_high: float = column(_NLL_INTERVAL)
    perplexity: float = column("exp(`nll`)")
    nll_by_document: list[float] | None = column(
        "`nll` of every document, in order; null in files of an earlier format that did not have it. Documents of two "
        "models are the same ones where `inputs.text` of `provenance`, the fingerprint of their tokens, is the same",
        newer=True,
    )
    stand_in: bool = column(_STAND_IN)


@dataclass(frozen=True)
class ShortContextRecord:
    """A task of lm-eval by one of its metrics."""

    task: str = column("by lm-eval's names")
    metric: str = column("by lm-eval's names")
    num_fewshot: int = column("examples before the question")
    n: int = column("samples")
    score: float = column(_SHORT_SCORE)
    score_low: float = column(_SHORT_SCORE)
    score_high: float = column(_SHORT_SCORE)
    stand_in: bool = column(_STAND_IN)


_CELL = "as in kind `benchmark`; the benchmark's needles are task `needle`"
_EXACT = "share of samples answered exactly, and its interval"
_SHARE = (
    "the same of the answer's parts, in any order: RULER's score. Parts are the four values of `multivalue`, the three "
    "words of `common-words`; an answer of one part has its `exact` here"
)
_REDUCED = (
    "how the cache was reduced, to the bytes of which variant, and which share was kept of the prompt, the largest "
    "over tasks. That of kind `memory` is after `length` tokens, where the hybrid's window ends with a block"
)


@dataclass(frozen=True)
class RetrievalView:
    """A cell of what an experiment asks: records of kind ``benchmark`` as `longgen.reporting.views` reads them."""

    task: str = column(_CELL)
    length: int = column(_CELL)
    depth: float | None = column(_CELL)
    n: int = column(_CELL)
    exact: float = column(_EXACT)
    exact_low: float = column(_EXACT)
    exact_high: float = column(_EXACT)
    share: float | None = column(_SHARE, newer=True)
    share_low: float | None = column(_SHARE, newer=True)
    share_high: float | None = column(_SHARE, newer=True)
    parts: int | None = column("how many an answer has; missing where `outcomes` are null", newer=True)
    parts_given: str | None = column(
        "a digit for every sample, in order: how many parts it gave. With one seed all variants, and all methods, get "
        "the same samples in the same order",
        newer=True,
    )


@dataclass(frozen=True)
class ReductionView(RetrievalView):
    """The same of a full model whose KV cache was reduced at inference."""

    method: str = column(_REDUCED)
    budget_of: str = column(_REDUCED)
    kv_fraction: float | None = column(_REDUCED)
