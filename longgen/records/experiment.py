"""Records of an experiment: predictions, corpus, training, and speed and memory of its own models."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.records.schema import column

_VARIANT = "the variant: name, where its full layers are, name of its pattern, number of full layers, number of layers"
_KV = "size of the KV cache of one sequence, and over that of full attention"
_FLOPS = "floating-point operations of one prefill, and of one training step on one sequence"
_IDEAL = "full attention over this variant in the three columns above"
_TIME = "median time and its bootstrap interval"
_SPEEDUP = (
    "over variant `full` at the same length: median of the ratios within each round, and its interval; 1 for `full` "
    "itself"
)


@dataclass(frozen=True)
class PlanRecord:
    """A variant at a length, predicted."""

    variant: str = column(_VARIANT)
    placement: str = column(_VARIANT)
    pattern: str = column(_VARIANT)
    full_layers: float = column(_VARIANT)
    num_layers: int = column(_VARIANT)
    length: int = column("context length")
    kv_bytes: int = column(_KV)
    kv_fraction: float = column(_KV)
    prefill_flops: int = column(_FLOPS)
    training_flops: int = column(_FLOPS)
    decode_bytes: int = column("bytes read to decode one token")
    ideal_prefill_speedup: float = column(_IDEAL)
    ideal_decode_speedup: float = column(_IDEAL)
    ideal_training_speedup: float = column(_IDEAL)


@dataclass(frozen=True)
class CorpusRecord:
    """A split of a corpus."""

    source: str = column("which corpus")
    split: str = column("`train` or `heldout`")
    documents: int = column("how many")
    tokens: int = column("how many")
    sha256: str = column("of the tokens")


@dataclass(frozen=True)
class TrainingRecord:
    """A stretch of a training stage."""

    stage: str = column("`base` (pretraining at short length; the file has no variant) or `extension`")
    phase: int = column("number of the phase within the stage")
    step: int = column("optimizer steps done in this stage")
    length: int = column("tokens per sequence in this phase")
    tokens: int = column("tokens seen in this stage")
    loss: float = column("mean cross-entropy in nats per token since the previous record")
    answer_accuracy: float | None = column(
        "share of answer tokens predicted right since then; null where there were none"
    )
    learning_rate: float = column("of the last step")
    seconds: float = column("wall-clock time of the stage so far")
    tokens_per_second: float = column("since the previous record")


_BUSY = "[how busy the machine was](#how-busy-the-machine-was)"


@dataclass(frozen=True)
class Busy:
    """How busy the machine was during the rounds; `longgen.busy` says what each of them is."""

    spread: float | None = column(_BUSY, newer=True)
    speedup_spread: float | None = column(_BUSY, newer=True)
    load_before: float | None = column(_BUSY, newer=True)
    load_after: float | None = column(_BUSY, newer=True)
    others: float | None = column(_BUSY, newer=True)
    steal: float | None = column(_BUSY, newer=True)


@dataclass(frozen=True)
class SpeedRecord(Busy):
    """A stage of a variant at a length, timed."""

    variant: str = column("what was timed")
    stage: str = column("`prefill`, `decode` (one token) or `training` (one step)")
    length: int = column("tokens of the prompt, before the decoded token, or of the row")
    n: int = column("repeats")
    seconds: float = column(_TIME)
    seconds_low: float = column(_TIME)
    seconds_high: float = column(_TIME)
    speedup: float = column(_SPEEDUP)
    speedup_low: float = column(_SPEEDUP)
    speedup_high: float = column(_SPEEDUP)


@dataclass(frozen=True)
class MemoryRecord:
    """The KV cache of a variant at a length, measured."""

    variant: str = column("what was measured")
    length: int = column("what was measured")
    kv_bytes: int = column("size of the KV cache of one sequence, from its tensors' storage")
    kv_bytes_planned: int = column("what the planner says it should be, counting the cache's growth in chunks")
    kv_fraction: float = column("`kv_bytes` over that of variant `full` at the same length")
