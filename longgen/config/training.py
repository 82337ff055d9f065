"""How a stage is trained, which determines its result, and by which set-up of processes, which does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from longgen.config.parts import Device, Dtype
from longgen.strict import require

# How rotary positions are extended: `longgen.modeling.rope`.
Rope = Literal["abf", "linear", "ntk", "yarn"]
# Matrices of a decoder layer, by their names in Hugging Face's Llama.
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class PhaseSettings:
    """A stretch of training at one length.

    Attributes:
        length: tokens per row.
        batch_size: rows per optimizer step, over all processes.
        steps: optimizer steps.
        learning_rate: its highest value.
        mixture: share of each kind of document (a name in `longgen.data.synthetic.documents.DOCUMENTS`); none where the
            stage reads packed rows.
        warmup_steps: over which the learning rate rises linearly from 0; then it stays.
        decay_steps: the last steps, over which it falls to ``final_learning_rate_ratio`` of itself. All steps after the
            warm-up with ``decay: cosine`` are the usual cosine schedule, 0 steps the constant one.
        decay: shape of that fall.
        final_learning_rate_ratio: see ``decay_steps``.
    """

    length: int
    batch_size: int
    steps: int
    learning_rate: float
    mixture: dict[str, float] = field(default_factory=dict)
    warmup_steps: int = 0
    decay_steps: int = 0
    decay: Literal["linear", "cosine"] = "linear"
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
        are_shares = all(share >= 0 for share in self.mixture.values()) and abs(total - 1) < 1e-6
        require(are_shares or not self.mixture, "mixture", self.mixture, "shares >= 0 that add up to 1")


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer of a training stage; see `longgen.training.optimizer`.

    Attributes:
        name: what updates the weights.
        betas: AdamW's two.
        weight_decay: of AdamW and Muon.
        gradient_clip: largest norm of all gradients together.
    """

    name: Literal["adamw", "muon"] = "adamw"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.01
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        are_betas = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(are_betas, "betas", self.betas, "two numbers within 0..1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number >= 0")
        require(self.gradient_clip > 0, "gradient_clip", self.gradient_clip, "a number > 0")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) in place of training all weights, through `peft`.

    Embeddings and norms are trained whole beside them, without which long context is not learnt well (LongLoRA, Chen et
    al. 2023, arXiv 2309.12307). The adapters are merged into the saved weights.

    Attributes:
        rank: of the adapters. 8: LongLoRA.
        alpha: their product counts ``alpha / rank``. 16: LongLoRA.
        targets: matrices that get one; LongLoRA: those of attention.
        train_embeddings: and the LM head where it is the same matrix.
        train_norms: all RMSNorms.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])
    train_embeddings: bool = True
    train_norms: bool = True

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", self.rank, "a whole number >= 1")
        require(self.alpha > 0, "alpha", self.alpha, "a number > 0")
        are_targets = len(self.targets) > 0 and set(self.targets) <= set(LORA_TARGETS)
        require(are_targets, "targets", self.targets, f"at least one of {', '.join(LORA_TARGETS)}")


@dataclass(frozen=True)
class TrainingSettings:
    """A training stage: phases in order, one optimizer.

    Attributes:
        phases: in order.
        optimizer: of all of them.
        packed: configuration file of `longgen pack` (config/data/*.yaml) whose rows are read; null: rows are generated
            by the ``mixture`` of each phase.
        separate_documents: documents of a packed row do not see each other, positions begin anew in each, and no token
            is predicted from the document before. False: a row is one sequence. Our choice; the paper says nothing.
        answer_weight: how much predicting a token of an answer counts in packed rows that have look-ups
            (`longgen.data.packing.lookups`); of any other token it is 1.
        dtype: of weights and activations in the layers. Weights that are updated, the sums of gradients and the
            optimizer's state are float32 always.
        lora: train adapters instead of all weights.
        checkpoint_every: steps.
        keep_checkpoints: how many.
        early_exit_layers: adds the loss of predicting from the hidden state after that many layers (the early-exit loss
            of LayerSkip, Elhoushi et al. 2024, arXiv 2404.16710). Large pretrained models retrieve in middle layers (Wu
            et al. 2024, arXiv 2404.15574); a six-layer one trained from scratch does so in its last two, unless it must
            answer sooner.
    """

    phases: list[PhaseSettings]
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    packed: str | None = None
    separate_documents: bool = True
    answer_weight: float = 1.0
    dtype: Dtype = "float32"
    lora: LoraSettings | None = None
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    early_exit_layers: int | None = None

    def __post_init__(self) -> None:
        require(len(self.phases) > 0, "phases", self.phases, "at least one phase")
        for name in ("checkpoint_every", "keep_checkpoints"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number >= 1")
        exit_layers = self.early_exit_layers
        require(
            exit_layers is None or exit_layers >= 1, "early_exit_layers", exit_layers, "a whole number >= 1 or null"
        )
        require(self.answer_weight > 0, "answer_weight", self.answer_weight, "a number > 0")
        for index, phase in enumerate(self.phases):
            allowed = "shares that add up to 1" if self.packed is None else "none with packed rows"
            require(bool(phase.mixture) == (self.packed is None), f"phases[{index}].mixture", phase.mixture, allowed)

    @property
    def max_length(self) -> int:
        """Longest phase, in tokens."""
        return max(phase.length for phase in self.phases)


@dataclass(frozen=True)
class ExtensionSettings(TrainingSettings):
    """Long-context fine-tuning; ``rope`` extends RoPE (`longgen.modeling.rope`), ``rope_theta`` is for abf."""

    rope: Rope = "abf"
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rope_theta > 1, "rope_theta", self.rope_theta, "a number > 1")
        is_default = self.rope_theta == ExtensionSettings.rope_theta
        require(
            self.rope == "abf" or is_default,
            "rope_theta",
            self.rope_theta,
            f"none with rope {self.rope}, which follows from the lengths",
        )


@dataclass(frozen=True)
class SetupSettings:
    """The processes that train and how they share the work: the result depends on it by rounding alone.

    Attributes:
        processes: one per GPU, over all nodes; null: as many as were started.
        sequence_parallel: how many neighbouring processes share the tokens of a row (Ulysses).
        micro_batch_size: rows per forward pass of such a group of neighbours; gradients of the passes of a step add up.
            Null: all rows of the group at once.
        recompute: keep of every layer its input alone, and compute the rest again in the backward pass.
        offload_activations: keep the inputs of the layers in main memory, with ``recompute``.
        offload_parameters: keep weights, gradients and optimizer state in main memory, and update them there.
        compile: compile the layers with torch.compile.
        device: kind of processor.
        nodes: machines of a cluster, with as many processes on each.
    """

    processes: int | None = None
    sequence_parallel: int = 1
    micro_batch_size: int | None = None
    recompute: bool = False
    offload_activations: bool = False
    offload_parameters: bool = False
    compile: bool = False
    device: Device = "cpu"
    nodes: int = 1

    def __post_init__(self) -> None:
        for name in ("processes", "micro_batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "a whole number >= 1 or null")
        require(self.sequence_parallel >= 1, "sequence_parallel", self.sequence_parallel, "a whole number >= 1")
        require(
            self.processes is None or self.processes % self.sequence_parallel == 0,
            "sequence_parallel",
            self.sequence_parallel,
            f"a divisor of {self.processes} processes",
        )
        processes = self.processes or 1
        divides = self.nodes >= 1 and processes % self.nodes == 0
        require(divides, "nodes", self.nodes, f"a divisor of {processes} processes")
        offload = self.offload_activations
        require(self.recompute or not offload, "offload_activations", offload, "false without recompute")
