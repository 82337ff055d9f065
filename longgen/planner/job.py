"""The training job that is planned: one phase on one set-up of processes, checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from longgen.config import SetupSettings, TrainingSettings
from longgen.errors import ConfigError
from longgen.gpus import GPUS, Gpu
from longgen.layout import Layout
from longgen.model import VALUE_BYTES, Model, check_sizes
from longgen.shapes import ModelShape

# Bytes of a number of what is float32 always: updated weights, summed gradients, optimizer state.
MASTER_BYTES = 4


@dataclass(frozen=True)
class Machine:
    """What a job runs on.

    Attributes:
        gpu: all of one kind.
        gpus_per_node: GPUs with a fast link between them.
        network: bytes per second and direction, per GPU, between nodes. Default: a 400 Gb/s adapter for every GPU.
        efficiency: share of the GPU's peak FLOP/s that is reached while it computes: assumed, unless you measured it.
    """

    gpu: Gpu = GPUS["h100-80gb"]
    gpus_per_node: int = 8
    network: float = 50e9
    efficiency: float = 0.4

    def __post_init__(self) -> None:
        if self.gpus_per_node < 1:
            raise ConfigError(f"gpus_per_node is {self.gpus_per_node}: allowed is a whole number >= 1")
        if self.network <= 0:
            raise ConfigError(f"network is {self.network} bytes/s: allowed is a number > 0")
        if not 0 < self.efficiency <= 1:
            raise ConfigError(f"efficiency is {self.efficiency}: allowed is a number > 0 and <= 1")


DEFAULT_MACHINE = Machine()


@dataclass(frozen=True)
class TrainingJob:
    """One phase of training on one set-up; arguments as of `longgen.planner.training.plan_training`.

    Raises:
        ConfigError: rows, tokens or heads cannot be shared out evenly.
    """

    model: Model
    length: int
    batch_size: int
    training: TrainingSettings
    setup: SetupSettings
    processes: int
    machine: Machine = DEFAULT_MACHINE

    def __post_init__(self) -> None:
        check_sizes(length=self.length, batch_size=self.batch_size, processes=self.processes)
        sequence, heads, kv_heads = self.sequence, self.shape.num_heads, self.shape.num_kv_heads
        if self.processes % sequence:
            raise ConfigError(
                f"sequence_parallel is {sequence}: allowed are divisors of the {self.processes} processes"
            )
        if heads % sequence or (kv_heads % sequence and sequence % kv_heads):
            raise ConfigError(
                f"sequence_parallel is {sequence}: allowed are divisors of {heads} heads that divide {kv_heads} KV "
                "heads or are multiples of them"
            )
        if self.length % sequence:
            raise ConfigError(f"length is {self.length}: allowed are multiples of sequence_parallel {sequence}")
        if self.batch_size % self.groups:
            raise ConfigError(
                f"batch_size is {self.batch_size}: allowed are multiples of {self.groups}, the groups of processes"
            )
        share = self.batch_size // self.groups
        if share % self.rows:
            raise ConfigError(f"micro_batch_size is {self.rows}: allowed are divisors of {share}, a group's rows")

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return self.model.shape

    @property
    def layout(self) -> Layout:
        """Its full and sparse layers."""
        return self.model.hybrid.layout

    @property
    def sequence(self) -> int:
        """How many processes share the tokens of a row."""
        return self.setup.sequence_parallel

    @property
    def groups(self) -> int:
        """How many groups of processes take different rows."""
        return self.processes // self.sequence

    @property
    def rows(self) -> int:
        """Rows of a group in one forward pass."""
        return self.setup.micro_batch_size or self.batch_size // self.groups

    @property
    def passes(self) -> int:
        """Forward and backward passes per optimizer step."""
        return self.batch_size // self.groups // self.rows

    @property
    def tokens(self) -> int:
        """Tokens of one process in one forward pass."""
        return self.rows * self.length // self.sequence

    @property
    def value_bytes(self) -> int:
        """Bytes of a weight or activation in the layers."""
        return VALUE_BYTES[self.training.dtype]

    @property
    def nodes(self) -> int:
        """Machines, of which the last may be partly used."""
        return -(-self.processes // self.machine.gpus_per_node)

    @property
    def sharded(self) -> bool:
        """Whether FSDP2 is used: a single process needs it for a lower precision or for offloading alone."""
        return self.processes > 1 or self.training.dtype != "float32" or self.setup.offload_parameters

    @cached_property
    def layer(self) -> Weights:
        """Weights of one decoder layer."""
        shape, lora = self.shape, self.training.lora
        norms, total = 2 * shape.hidden_size, shape.layer_weights + 2 * shape.hidden_size
        if lora is None:
            return Weights(total, total, shape.layer_weights)
        adapters = lora.rank * sum(sum(_sides(shape)[target]) for target in lora.targets)
        return Weights(total + adapters, adapters + norms * lora.train_norms, adapters)

    @cached_property
    def root(self) -> Weights:
        """Weights outside the layers: embeddings, last norm, LM head."""
        shape, lora = self.shape, self.training.lora
        total = (2 - shape.tie_word_embeddings) * shape.head_weights + shape.hidden_size
        if lora is None:
            return Weights(total, total, 0)
        return Weights(total, shape.head_weights * lora.train_embeddings + shape.hidden_size * lora.train_norms, 0)

    @property
    def trained_head(self) -> int:
        """Weights of the LM head that are trained."""
        lora = self.training.lora
        trained = lora is None or (self.shape.tie_word_embeddings and lora.train_embeddings)
        return self.shape.head_weights * trained

    @cached_property
    def whole(self) -> Weights:
        """Weights of the whole model."""
        layers, layer, root = self.shape.num_layers, self.layer, self.root
        return Weights(
            layers * layer.count + root.count,
            layers * layer.trained + root.trained,
            layers * layer.matrices + root.matrices,
        )


@dataclass(frozen=True)
class Weights:
    """Numbers of weights.

    Attributes:
        count: all of them.
        trained: those with gradients.
        matrices: those that Muon updates, where that is the optimizer.
    """

    count: int
    trained: int
    matrices: int


def _sides(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a layer's matrices."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
