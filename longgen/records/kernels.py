"""Records of kernels, and of training steps and inference at a model's true shape."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

from longgen.records.experiment import Busy
from longgen.records.schema import MEASURED, column

_HEADS = "the heads"
_TILE = "sizes of the tile in tokens"
_COMPILED = "how it was compiled: warps per program, stages of the software pipeline"
_TIMED_ON = "what it was timed on"
_RATES = "`flops` and `bytes` over `seconds`"
_KERNELS = (
    "what computes attention; full attention by the kernel that was fastest at this length, ours included, and with it "
    "the fastest `chunk` that fits; null where composed"
)
_TIME = "median time and its bootstrap interval"
_ROUND_TIME = (
    "median time and its bootstrap interval; of decoding, a step as the mean of 32 in a row; of one round there is no "
    "interval"
)
_SPEEDUP = (
    "over full attention at the same depth, measured or composed likewise: median of the ratios within each round, and "
    "its interval; null where full attention does not fit"
)
_CPU_SPEEDUP = "median of the ratios within each round, and its bootstrap interval"
_STATUS = "`measured`, `unsupported`, `failed` or `not measured`, and why"


@dataclass(frozen=True)
class Status:
    """What became of a record; where it was not measured, all measured columns are null."""

    status: str = column(_STATUS, default=MEASURED)
    reason: str | None = column(_STATUS, default=None)

    @classmethod
    def blank(cls, **known: Any) -> Self:
        """A record of ``known`` columns and null in all others, which take the place of null once they are measured."""
        columns: dict[str, Any] = dict.fromkeys(each.name for each in fields(cls) if each.default is MISSING)
        return cls(**columns | known)


@dataclass(frozen=True)
class Times:
    """Of repeats."""

    n: int = column("repeats")
    seconds: float = column(_TIME)
    seconds_low: float = column(_TIME)
    seconds_high: float = column(_TIME)


@dataclass(frozen=True)
class DeviceLimitRecord(Times):
    """What a GPU can do at best."""

    quantity: str = column(
        "`copy bandwidth`: of a large copy on the device; `matrix product`: of a large one on random numbers"
    )
    unit: str = column(
        "`bytes per second`, those read plus those written; `operations per second`, floating-point ones"
    )
    value: float = column("in that unit")


@dataclass(frozen=True)
class KernelCheckRecord(Status):
    """A tensor of a kernel against a reference in higher precision, on random inputs."""

    what: str = column("kernels and mode")
    shape: str = column("the heads; `small` where they are no model's")
    num_heads: int = column("the heads; `small` where they are no model's")
    num_kv_heads: int = column("the heads; `small` where they are no model's")
    head_dim: int = column("the heads; `small` where they are no model's")
    length: int = column("tokens")
    pattern: str = column("`full`, `sink` or `stride-16`, or its sizes in words")
    dtype: str = column("of the inputs")
    tensor: str | None = column("`output`, `grad query`, `grad key` or `grad value`; null where nothing was compared")
    tolerance: float = column("largest error allowed")
    error: float = column("norm of the difference over the norm of the reference; for `the same bits twice` 0 or 1")
    passed: bool = column(
        "whether `error` is at most `tolerance`; false where the result is not a number; null where nothing was "
        "compared"
    )


@dataclass(frozen=True)
class KernelSpeedRecord(Times, Status):
    """An implementation of one layer's attention, timed."""

    stage: str = column(
        "`forward`, `forward+backward`, or `decode` (one token after `length`) of one layer's attention"
    )
    shape: str = column(_HEADS)
    num_heads: int = column(_HEADS)
    num_kv_heads: int = column(_HEADS)
    head_dim: int = column(_HEADS)
    dtype: str = column("of the inputs")
    length: int = column("tokens of context; to decode, the layer's cache holds what `pattern` keeps of them")
    batch: int = column("sequences")
    pattern: str = column("`full`, `sink` or `stride-16`")
    implementation: str = column(
        "ours: `longgen`, `longgen full` (the same kernels without sparsity), `longgen decode`, `blocked` (without "
        "Triton); dense: `flash-attn`, `sdpa-flash`, `sdpa-cudnn`, `sdpa`; `flex-128` and `flex-64`: FlexAttention "
        "with the same mask in blocks of 128 or 64; `sdpa decode`, `sdpa-flash decode`: PyTorch's attention over the "
        "cache"
    )
    flops: float = column(
        "floating-point operations that the pattern needs: two matrix products forward, five more backward"
    )
    bytes: int = column("fewest bytes to move: every input read once, every output written once")
    flops_per_second: float = column(_RATES)
    bytes_per_second: float = column(_RATES)
    ideal_seconds: float | None = column(
        "for a whole sequence: time of the fastest dense kernel of the same stage, heads and batch, scaled by the "
        "`flops` that the pattern leaves, at a length where none was measured that of the nearest; to decode: `bytes` "
        "over the copy bandwidth"
    )
    ideal_from: str | None = column(
        "that kernel and its length, such as `sdpa-flash @ 131072`; or `copy bandwidth`. Both are null where nothing "
        "dense was measured"
    )
    fraction_of_ideal: float | None = column(
        "`ideal_seconds` over `seconds`; may exceed 1, an ideal being a measurement of another kernel"
    )
    speedup: float | None = column(
        "time of the fastest dense kernel at the same length over `seconds`; to decode, on the cache of a full layer; "
        "null where it was not measured"
    )


@dataclass(frozen=True)
class KernelTuningRecord(Times, Status):
    """A candidate for the tile of a kernel."""

    kernel: str = column("`forward`; `queries`, `keys` and `far_keys`, those of the backward pass; `decode`")
    shape: str = column(_TIMED_ON)
    num_heads: int = column(_TIMED_ON)
    num_kv_heads: int = column(_TIMED_ON)
    head_dim: int = column(_TIMED_ON)
    length: int = column(_TIMED_ON)
    pattern: str = column(_TIMED_ON)
    dtype: str = column(_TIMED_ON)
    queries: int = column(_TILE)
    keys: int = column(_TILE)
    warps: int = column(_COMPILED)
    stages: int = column(_COMPILED)
    shipped: bool = column("whether this is the tile that we ship")


@dataclass(frozen=True)
class AttentionSpeedRecord(Busy):
    """Sparse attention on a CPU against PyTorch's full attention on the same tensors in the same process."""

    dtype: str = column("of the tensors")
    num_heads: int = column("of the tensors")
    num_kv_heads: int = column("of the tensors")
    head_dim: int = column("of the tensors")
    implementation: str = column(
        "`blocked`: ours; `flex`: compiled FlexAttention with the same mask, which has no backward pass on a CPU"
    )
    length: int = column("tokens")
    pattern: str = column("`sink` or `stride-16`")
    stage: str = column("`forward`, `backward` or `forward+backward`")
    n: int = column("rounds")
    full_seconds: float = column("median time of full and of sparse attention")
    seconds: float = column("median time of full and of sparse attention")
    speedup: float = column(_CPU_SPEEDUP)
    speedup_low: float = column(_CPU_SPEEDUP)
    speedup_high: float = column(_CPU_SPEEDUP)
    ideal_speedup: float = column("pairs of tokens that full attention computes over those that the pattern leaves")
    fraction_of_ideal: float = column("`speedup` over `ideal_speedup`")


@dataclass(frozen=True)
class StepSpeedRecord(Busy, Status):
    """What training steps and inference at a model's true shape have in common."""

    num_layers: int | None = column(
        "layers; of a `composed layer` 1; none: embeddings and LM head alone, or what does not grow with the layers"
    )
    full_layers: int | None = column("how many of them are full")
    pattern: str | None = column("what the others are")
    dtype: str = column("of weights, activations and cache in the layers")
    full_kernel: str | None = column(_KERNELS)
    sparse_kernel: str | None = column(_KERNELS)
    seconds_low: float | None = column(_ROUND_TIME)
    seconds_high: float | None = column(_ROUND_TIME)
    speedup: float | None = column(_SPEEDUP)
    speedup_low: float | None = column(_SPEEDUP)
    speedup_high: float | None = column(_SPEEDUP)
    ideal_speedup: float | None = column("predicted: `flops` of full attention over these, or to decode `bytes`")
    fraction_of_ideal: float | None = column(
        "`speedup` over `ideal_speedup`; may exceed 1, attention being slower per operation than matrix products"
    )
    fit_error: float | None = column(
        "by how much the parts together exceed the slice's time, as a share of it; null where composed, and where "
        "there are no more slices than parts"
    )
    peak_bytes: int | None = column(
        "most memory of tensors on the GPU in the last round; of a shallower slice with the weights of the layers left "
        "out; null where composed"
    )


@dataclass(frozen=True)
class TrainingSpeedRecord(StepSpeedRecord):
    """A training step, of a slice or composed."""

    what: str = column(
        "`slice`: measured. Parts of a layer, measured: `attention of a share of heads`, `a tile through a layer "
        "without attention`, `a tile through embeddings and LM head`, `update of a weight`; how often each is "
        "counted, `note` says. What follows from either: `composed layer`; `composed rest` (embeddings, LM head, "
        "loss: what does not grow with the layers); `composed model`, the whole model of these parts. Its `status` is "
        "that of the slices"
    )
    shape: str = column("model, and tokens of the row")
    length: int = column("model, and tokens of the row")
    flops: int | None = column("floating-point operations of a step, without recomputed ones")
    n: int = column("rounds, in each of which every slice or part runs once; what is composed is so within a round")
    seconds: float = column(_ROUND_TIME)
    mfu: float | None = column("`flops` over `seconds`, of the datasheet's peak; null where that is not known")
    note: str | None = column(
        "what happened before, such as that more layers ran out of memory; of a part, how often it is counted; else "
        "null"
    )


@dataclass(frozen=True)
class InferenceSpeedRecord(StepSpeedRecord):
    """Prefill, decoding or memory, of a slice, a whole model, or composed."""

    what: str = column(
        "`slice-prefill`, `slice-decode`: of a slice. `model-prefill`, `model-decode`: of a whole model. "
        "`longest-context`: most tokens that a whole model has memory for. `kv-cache`: the bytes of a whole model's "
        "cache, counted layer by layer"
    )
    composed: bool = column(
        "whether it follows from slices: the seconds of a layer of each kind and of the rest, and the bytes of a "
        "layer's cache. Its `status` is that of the slices. False: it ran as it stands"
    )
    shape: str = column("model")
    length: int = column(
        "tokens of each sequence before the one that is predicted or decoded; of a `longest-context` the result, in "
        "steps of 4,096"
    )
    batch: int = column("sequences, all of the same length")
    chunk: int | None = column(
        "tokens of a forward pass of prefill, of each sequence; null to decode, and where composed"
    )
    flops: int | None = column("of prefill, floating-point operations; null where they do not count")
    bytes: int | None = column(
        "of a step of decoding, which gives every sequence a token, bytes to read; null where they do not count"
    )
    n: int | None = column(
        "rounds, in each of which every stack of layers runs once; what is composed is so within a round"
    )
    seconds: float | None = column("the same; null of a `longest-context` and a `kv-cache`")
    kv_bytes: int | None = column(
        "size of the KV cache of all sequences, from its tensors' storage; to decode, of one with fixed shapes and "
        "room for the tokens to come"
    )
    note: str | None = column(
        "what happened before, such as that more layers ran out of memory, or that steps were not captured as a CUDA "
        "graph; else null"
    )


_ASKED = "tokens of a prompt, tokens that it is answered with, and how many of them, all there from the beginning"
_ENGINE = "bytes of the engine's KV cache; tokens of a step, at most; of weights, activations and cache"
_LAYERS = "layers, how many of them are full, and what the others are"
_FIRST = "seconds that a request waited for its first token: median over requests, and its bootstrap interval"
_SERVED = "tokens per second over those of full attention; of one run there is no interval"


@dataclass(frozen=True)
class ServingSpeedRecord(Busy, Status):
    """A load of requests through a serving engine."""

    engine: str = column("vLLM and its version; name of the model's folder")
    shape: str = column("vLLM and its version; name of the model's folder")
    length: int = column(_ASKED)
    new_tokens: int = column(_ASKED)
    requests: int = column(_ASKED)
    kv_memory: int = column(_ENGINE)
    chunk: int = column(_ENGINE)
    dtype: str = column(_ENGINE)
    num_layers: int = column(_LAYERS)
    full_layers: int = column(_LAYERS)
    pattern: str = column(_LAYERS)
    sequences: float = column(
        "requests of the greatest length that fit, as the engine counts when it starts: a fraction, and with a chunk "
        "of prefill for each"
    )
    running: int = column("requests that had KV cache in the same step, at most")
    preemptions: int | None = column("how often a request lost it")
    kv_bytes: int = column("of one request at its last token, in whole blocks of all layers")
    n: int | None = column("runs, and seconds from the first request to the last answer")
    seconds: float = column("runs, and seconds from the first request to the last answer")
    tokens_per_second: float | None = column("new tokens of all requests over `seconds`")
    first_token: float | None = column(_FIRST)
    first_token_low: float | None = column(_FIRST)
    first_token_high: float | None = column(_FIRST)
    speedup: float | None = column(_SERVED)
    speedup_low: float | None = column(_SERVED)
    speedup_high: float | None = column(_SERVED)
