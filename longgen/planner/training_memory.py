"""Memory of one training process, by arithmetic: what is live at the widest point of a step.

FSDP2 over all processes, one unit per decoder layer and one for the rest, as `longgen.training.parallel` has it. A test
counts the live tensors of the real step at the layer shapes of Llama-2 7B and compares.
"""

from __future__ import annotations

from longgen.gpus import GIB
from longgen.names import CHUNK_TOKENS, LOGITS_BLOCK
from longgen.planner.job import MASTER_BYTES, TrainingJob

# What no tensor accounts for. Our choice, on the safe side of what such runs usually show; not measured.
CONTEXT_BYTES = 1 * GIB  # CUDA context, cuBLAS workspaces, loaded kernels
COMMUNICATION_BYTES = 1 * GIB  # NCCL's buffers, where there are several processes
FRAGMENTATION = 0.05  # of all tensors: what PyTorch's allocator holds and cannot use

# Names of the components.
STATES = ("weights", "gradients", "optimizer state")
GATHERED, REDUCED = "gathered weights", "gradients in work"
INPUTS, SAVED = "saved layer inputs", "saved activations"
LAYER, LOSS, RESERVE = "layer in work", "loss in work", "reserve"


def training_memory(job: TrainingJob) -> dict[str, int]:
    """Bytes on one GPU at the widest point of a step, by component; the reserve is one of them.

    Counted as if gradients of earlier passes were there, and for the layer that needs most. Not counted: what LoRA and
    ``compile`` save in the layer in work, and the matrices that Muon orthogonalises.
    """
    states = state_bytes(job)
    if job.setup.offload_parameters:
        states = dict.fromkeys(STATES, 0)
    memory = states | max(_backward_peaks(job), key=lambda peak: sum(peak.values()))
    if job.setup.device == "cuda":
        several = COMMUNICATION_BYTES if job.processes > 1 else 0
        memory[RESERVE] = CONTEXT_BYTES + several + int(FRAGMENTATION * sum(memory.values()))
    return {name: count for name, count in memory.items() if count}


def host_memory(job: TrainingJob) -> dict[str, int]:
    """Bytes of main memory that offloading takes on a node, by component.

    PyTorch rounds pinned buffers up to powers of two, which is not counted.
    """
    memory: dict[str, int] = {}
    here = min(job.processes, job.machine.gpus_per_node)
    if job.setup.offload_parameters:
        memory |= {name: here * count for name, count in state_bytes(job).items()}
    if job.setup.offload_activations:
        memory[INPUTS] = here * offloaded_bytes(job)
    return memory


def offloaded_bytes(job: TrainingJob) -> int:
    """Bytes that one pass of one process sends to main memory in the forward pass and fetches in the backward pass.

    The inputs of all layers, and what the last norm saves: its input, twice, in float32, and the normalised input.
    """
    hidden = job.shape.hidden_size
    return job.tokens * hidden * (job.shape.num_layers * job.value_bytes + 2 * 4 + job.value_bytes)


def state_bytes(job: TrainingJob) -> dict[str, int]:
    """Bytes of one process's weights, gradients and optimizer state, wherever they are kept."""
    trained = job.whole.trained
    moments = 2 * trained  # of AdamW; Muon has one for the matrices that it updates
    if job.training.optimizer.name == "muon":
        moments -= job.whole.matrices
    counts = (job.whole.count, trained, moments)
    return {name: MASTER_BYTES * -(-count // job.processes) for name, count in zip(STATES, counts, strict=True)}


def _backward_peaks(job: TrainingJob) -> list[dict[str, int]]:
    """Bytes beside the states, by component, where the backward pass may be widest."""
    layer, layers, value = job.layer, job.shape.num_layers, job.value_bytes
    in_work = max(_layer_peaks(job).values()) * job.tokens
    head = job.trained_head * value  # its gradient is there from the loss on
    return [
        # a layer: weights of the next are on their way, and gradients of the one before are being reduced
        _saved_bytes(job, layers - 1)
        | {LAYER: in_work}
        | _sharding(job, 2 * layer.count, head + layer.trained * (value + MASTER_BYTES)),
        # the loss, after which weights of the last layer and the one before it come
        _saved_bytes(job, layers) | {LOSS: _loss(job)} | _sharding(job, 2 * layer.count, 0),
        # the end, where gradients of the root are reduced
        {LAYER: 2 * job.tokens * job.shape.hidden_size * value}
        | _sharding(job, 0, job.root.trained * (value + MASTER_BYTES)),
    ]


def _sharding(job: TrainingJob, gathered: int, reduced: int) -> dict[str, int]:
    """Bytes that FSDP2 holds beside its shards: ``gathered`` weights of layers, and ``reduced`` bytes of gradients."""
    if not job.sharded:
        return {}
    size = (gathered + job.root.count) * job.value_bytes
    if job.setup.offload_parameters:  # a layer's shards on their way in, and another's gradients out
        size += 2 * MASTER_BYTES * job.layer.count // job.processes
    return {GATHERED: size, REDUCED: reduced}


def _saved_bytes(job: TrainingJob, layers: int) -> dict[str, int]:
    """Bytes that wait for their backward pass: of ``layers`` layers; of all of them if only inputs are kept."""
    shape, setup = job.shape, job.setup
    layer_input = job.tokens * shape.hidden_size * job.value_bytes
    if setup.offload_activations:
        return {INPUTS: 2 * layer_input}  # one in use, one on its way
    if setup.recompute:
        return {INPUTS: shape.num_layers * layer_input}
    return {SAVED: layers * job.tokens * (_norm(job) + _attention(job) + _norm(job) + _mlp(job))}


# ---------------------------------------------------------------- inside a layer: bytes per token of this process
def _norm(job: TrainingJob) -> int:
    """An RMSNorm saves its input in float32, the normalised input, and its output for the matrices that follow."""
    hidden, value = job.shape.hidden_size, job.value_bytes
    return hidden * (4 + 2 * value)


def _queries(job: TrainingJob) -> int:
    """Bytes of a token's queries, and of what attention gives back."""
    return job.shape.num_heads * job.shape.head_dim * job.value_bytes


def _keys(job: TrainingJob) -> int:
    """Bytes of a token's keys, or values, where attention is computed: Ulysses repeats heads that are too few."""
    return max(job.shape.num_kv_heads, job.sequence) * job.shape.head_dim * job.value_bytes


def _attention(job: TrainingJob) -> int:
    """Attention saves queries, keys, values, output and log-sum-exp; the output matrix, the output.

    The latter is a tensor of its own where heads are exchanged for tokens, or put together from full and sparse ones.
    """
    by_head = any(isinstance(flags, tuple) for flags in job.layout.full)
    copies = 2 if job.sequence > 1 or by_head else 1
    return (1 + copies) * _queries(job) + 2 * _keys(job) + 4 * job.shape.num_heads


def _mlp(job: TrainingJob) -> int:
    """The gated MLP saves gate, activated gate, up projection, and their product."""
    return 4 * job.shape.intermediate_size * job.value_bytes


def _layer_peaks(job: TrainingJob) -> dict[str, int]:
    """Bytes per token within the layer in work, where each of its parts needs most."""
    shape, value = job.shape, job.value_bytes
    hidden, inner = shape.hidden_size * value, shape.intermediate_size * value
    queries, keys, norm, attention = _queries(job), _keys(job), _norm(job), _attention(job)
    own_keys = shape.num_kv_heads * shape.head_dim * value
    # the gradient of the layer's output, and the rotary angles' cosines and sines, are there throughout
    common = hidden + 2 * shape.head_dim * value
    # flash-attn adds up the gradients of queries in float32, and repeats grouped heads; our own kernels do neither
    workspace = 4 * shape.num_heads * shape.head_dim + (2 * queries if keys < queries else 0)
    exchanged = 3 * queries if job.sequence > 1 else 0  # sent, received, and put in order
    return {
        # the product's gradient gives those of gate and up; the product itself is gone
        "mlp": common + norm + attention + norm + _mlp(job) + 2 * inner,
        # its backward pass in float32: five more tensors of the hidden size
        "norm": common + norm + attention + 4 * shape.hidden_size * (1 + 5),
        "attention, recomputed": common + norm + attention + queries + 2 * own_keys + exchanged,
        "attention": common + norm + attention + 2 * queries + 2 * keys + workspace * (job.layout.num_full > 0),
    }


def _loss(job: TrainingJob) -> int:
    """Bytes of the loss: logits of a chunk, those in work in float32, the head's gradient, and the hidden states."""
    shape, chunk = job.shape, job.shape.vocab_size * min(job.tokens, CHUNK_TOKENS)
    logits = chunk * job.value_bytes + min(4 * chunk, LOGITS_BLOCK)
    hidden = shape.hidden_size * (4 + 3 * job.value_bytes)  # as saved by the last norm; picked; their gradients
    gradient = (MASTER_BYTES + job.value_bytes) * job.trained_head  # the sum over chunks, and that of one of them
    return logits + gradient + job.tokens * hidden
