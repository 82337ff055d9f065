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
        compute_dtype: see `Processes.share`.
    """

    def __init__(self, model: Any, processes: Processes, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.processes = model, processes
        processes.share(model, self, compute_dtype)

    def forward(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        packed: PackedDocuments | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of this process's tokens.

        Args:
            inputs: [rows, length] int64, this process's rows, with all their tokens.
            targets: like ``inputs``, the next token of each position.
            weights: [rows, length] float, what each target counts.
            packed: the documents of the only row.

        Returns:
            the loss, scaled so that its mean over all processes is that of the batch, and so with gradients; and as
            `weighted_loss` the share of answers that are right.
        """
        length, processes = inputs.shape[1], self.processes
        own = processes.tokens(length)
        options: dict[str, Any] = {}
        positions = torch.arange(length, device=inputs.device)[None]
        if packed is not None:
            positions = positions_in_documents(packed, length)
            # keeps transformers from looking for the documents in positions of which it sees a part
            mask = torch.ones(1, own.stop - own.start, dtype=torch.bool, device=inputs.device)
            options = {"packed": packed, "attention_mask": mask}
        hidden = self.model.model(
            input_ids=inputs[:, own], position_ids=positions[:, own], use_cache=False, **options
        ).last_hidden_state
        counted = weights[:, own]
        total = processes.total(counted.sum()) / processes.world
        return weighted_loss(hidden, self.model.lm_head.weight, targets[:, own], counted, total)
