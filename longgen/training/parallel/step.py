"""The loss of this process's share of a batch, as a module: FSDP2 gathers weights when a module is called."""

from __future__ import annotations

from typing import Any

import torch

from longgen.attention import PackedDocuments
from longgen.modeling.packing import positions_in_documents
from longgen.training.loss import weighted_loss
from longgen.training.parallel.processes import Processes


class Trainee(torch.nn.Module):
    """A hybrid together with its loss.

    Args:
        model: a converted model. Its weights are sharded in place; a single process leaves it as it is.
        processes: who takes part.
        exit_layers: after how many layers another prediction is trained (`TrainingSettings`), or None.
        compute_dtype: see `Processes.share`.
    """

    def __init__(
        self,
        model: Any,
        processes: Processes,
        exit_layers: int | None = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model, self.processes, self.exit_layers = model, processes, exit_layers
        processes.share(model, self, compute_dtype)

    def forward(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        packed: PackedDocuments | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss of this process's tokens.

        Args:
            inputs: [rows, length] int64, this process's rows, with all their tokens.
            targets: like ``inputs``, the next token of each position.
            weights: [rows, length] float, what each target counts.
            packed: the documents of the only row.

        Returns:
            what to minimise; the loss of the last layer alone; and as `weighted_loss` the share of answers that are
            right. The first two are scaled so that their means over all processes are those of the batch, as FSDP2
            takes the mean of the gradients.
        """
        length, processes = inputs.shape[1], self.processes
        own = processes.tokens(length)
        options: dict[str, Any] = {}
        if packed is not None:
            # a mask keeps transformers from looking for the documents in positions of which it sees a part
            mask = torch.ones(1, own.stop - own.start, dtype=torch.bool, device=inputs.device)
            positions = positions_in_documents(packed, length)[:, own]
            options = {"packed": packed, "attention_mask": mask, "position_ids": positions}
        elif processes.sequence > 1:
            options = {"position_ids": torch.arange(own.start, own.stop, device=inputs.device)[None]}
        counted = weights[:, own]
        total = processes.total(counted.sum()) / processes.world
        output = self.model.model(
            input_ids=inputs[:, own], use_cache=False, output_hidden_states=self.exit_layers is not None, **options
        )
        head = self.model.lm_head.weight
        loss, right = weighted_loss(output.last_hidden_state, head, targets[:, own], counted, total)
        objective = loss
        if self.exit_layers is not None:
            early = self.model.model.norm(output.hidden_states[self.exit_layers])  # entry 0 is the embeddings
            objective = loss + weighted_loss(early, head, targets[:, own], counted, total)[0]
        return objective, loss.detach(), right
