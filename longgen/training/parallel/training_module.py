"""The loss of this process's share of a batch, as a module: FSDP2 gathers weights when a module is called."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import save_on_cpu

from longgen.config import SetupSettings, TrainingSettings
from longgen.modeling.head import head_input
from longgen.modeling.packing import positions_in_documents
from longgen.training.batches import Batch
from longgen.training.loss import weighted_loss
from longgen.training.parallel.processes import Processes
from longgen.training.parallel.sharding import shard_weights, share_tokens


class PassLosses(NamedTuple):
    """Scalars of one forward pass, over this process's tokens.

    Attributes:
        objective: what to minimise.
        loss: that of the last layer alone, without gradient.
        right: number of answers (targets of weight > 1) that are the most probable token.
        answers: number of answers.
    """

    objective: torch.Tensor
    loss: torch.Tensor
    right: torch.Tensor
    answers: torch.Tensor


class TrainingModule(torch.nn.Module):
    """A causal LM together with its loss, spread over processes in place.

    Args:
        model: a hybrid, or another model with ``model.model`` (the decoder) and ``model.lm_head``.
        processes: who takes part.
        settings: the stage.
        setup: how it is computed.
    """

    def __init__(self, model: Any, processes: Processes, settings: TrainingSettings, setup: SetupSettings) -> None:
        super().__init__()
        self.model, self.processes, self.exit_layers = model, processes, settings.early_exit_layers
        self.offload_activations = setup.offload_activations
        share_tokens(model, processes)
        layers = model.model.layers
        if setup.recompute:
            _recompute_layers(model)
        if setup.compile:  # all of a layer but its attention, whose kernels are compiled as they are
            for layer in layers:
                for part in layer.children():
                    if part is not layer.self_attn:
                        part.compile()
        dtype = {"float32": None, "bfloat16": torch.bfloat16}[settings.dtype]
        shard_weights(self, layers, processes, dtype, setup.offload_parameters)

    def own_weight(self, batch: Batch) -> torch.Tensor:
        """The sum of the weights of this process's tokens: scalar, as ``batch.weights``."""
        return batch.weights[:, self.processes.tokens(batch.weights.shape[1])].sum()

    def forward(self, batch: Batch, total_weight: torch.Tensor) -> PassLosses:
        """Loss of this process's tokens.

        Args:
            batch: this process's rows, with all their tokens, on its device.
            total_weight: scalar, what the sum over the tokens is divided by. Where it is the weight of the whole step
                over the number of processes, the losses of a step's passes add up, and their sums over the processes
                average, to the mean over all targets of the step; so do gradients, of which FSDP2 takes the average.
        """
        inputs, packed = batch.inputs, batch.packed
        length, processes = inputs.shape[1], self.processes
        own_tokens = processes.tokens(length)
        options: dict[str, Any] = {}
        if packed is not None:
            # a mask keeps transformers from looking for the documents in positions of which it sees a part
            mask = torch.ones(1, own_tokens.stop - own_tokens.start, dtype=torch.bool, device=inputs.device)
            positions = positions_in_documents(packed, length)[:, own_tokens]
            options = {"packed": packed, "attention_mask": mask, "position_ids": positions}
        elif processes.sequence > 1:
            options = {"position_ids": torch.arange(own_tokens.start, own_tokens.stop, device=inputs.device)[None]}
        with self._offloading(inputs.device):
            output = self.model.model(
                input_ids=inputs[:, own_tokens],
                use_cache=False,
                output_hidden_states=self.exit_layers is not None,
                **options,
            )
        head, targets, weights = self.model.lm_head.weight, batch.targets[:, own_tokens], batch.weights[:, own_tokens]
        states = head_input(self.model, output.last_hidden_state)
        loss, right, answers = weighted_loss(states, head, targets, weights, total_weight)
        objective = loss
        if self.exit_layers is not None:
            early = self.model.model.norm(output.hidden_states[self.exit_layers])  # entry 0 is the embeddings
            objective = loss + weighted_loss(head_input(self.model, early), head, targets, weights, total_weight)[0]
        return PassLosses(objective, loss.detach(), right, answers)

    def _offloading(self, device: torch.device) -> AbstractContextManager[Any]:
        return save_on_cpu(pin_memory=device.type == "cuda") if self.offload_activations else nullcontext()


def _recompute_layers(model: Any) -> None:
    # the name changed within transformers 5
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
