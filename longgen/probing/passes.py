"""Forward passes of one model under many layouts: layers that layouts have in common from the bottom run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from longgen.evaluation.finite import no_number
from longgen.evaluation.likelihood import MAX_NLL
from longgen.hybrid import Hybrid
from longgen.layout import Layout
from longgen.modeling.attention import assign_heads
from longgen.modeling.head import head_input
from longgen.pattern import SparsePattern
from longgen.probed_layout import Flags, flags_of
from longgen.probing.prompts import Prompt


class PromptLosses(NamedTuple):
    """Mean cross-entropy of a prompt, in nats per token: of the answers, and of the sampled plain text."""

    answers: float
    text: float


class _FirstLayerReached(Exception):  # noqa: N818 - no error: it ends a forward pass before its first layer
    pass


class SharedPasses:
    """Runs a hybrid under other layouts than its own, which it has again afterwards.

    Args:
        model: a causal LM of `longgen.modeling.longgen_classes`, in evaluation mode.
        pattern: of the sparse layers, in the place of the model's own.
    """

    def __init__(self, model: Any, pattern: SparsePattern) -> None:
        self._model, self._pattern = model, pattern
        self._num_kv_heads = model.config.num_key_value_heads
        self._head_groups: dict[Flags, Any] = {}

    @torch.no_grad()
    def run(
        self,
        prompt: Prompt,
        layouts: Sequence[Layout],
        on_losses: Callable[[int, PromptLosses], None],
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        """Losses of ``prompt`` under every one of ``layouts``.

        Where layouts part, the hidden states are kept until all branches are done, the one with fewest layouts first:
        at most log2 of their number + 1 are kept at a time, each [length, hidden size].

        Args:
            prompt: what the model reads.
            layouts: of the model's depth; each is measured.
            on_losses: called with the index of a layout and its losses, as soon as they are there, in no order.
            advance: called after every layer that was computed.

        Raises:
            ArtifactError: a loss is not a number.
        """
        tokens = torch.from_numpy(prompt.tokens)[None].to(self._model.device)
        rows = [flags_of(layout) for layout in layouts]
        with self._own_layout_afterwards():
            hidden, arguments = self._before_layers(tokens)
            pending = [(0, hidden, list(range(len(rows))))]
            del hidden
            while pending:
                depth, hidden, members = pending.pop()
                if depth == len(self._model.model.layers):
                    losses = self._losses(hidden, prompt, tokens)
                    for index in members:
                        on_losses(index, losses)
                    continue
                branches: dict[Flags, list[int]] = {}
                for index in members:
                    branches.setdefault(rows[index][depth], []).append(index)
                ordered = sorted(branches.items(), key=lambda branch: len(branch[1]))
                (flags, first), *others = ordered
                if others:  # come back to this place for the rest
                    pending.append((depth, hidden, [index for _, branch in others for index in branch]))
                pending.append((depth + 1, self._layer(depth, flags, hidden, arguments), first))
                del hidden
                advance()

    def _before_layers(self, tokens: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        """The first layer's input, as the family's own code makes it: hidden states, and arguments of all layers."""
        inputs: list[Any] = []

        def catch(module: Any, positional: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            inputs.append((positional, keywords))
            raise _FirstLayerReached

        hook = self._model.model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            self._model.model(input_ids=tokens, use_cache=False)
        except _FirstLayerReached:
            pass
        finally:
            hook.remove()
        (hidden,), arguments = inputs[0]
        return hidden, arguments

    def _layer(self, depth: int, flags: Flags, hidden: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        layer = self._model.model.layers[depth]
        assign_heads(layer.self_attn, self._groups(flags))
        output: torch.Tensor = layer(hidden, **arguments)
        return output

    def _groups(self, flags: Flags) -> Any:
        if flags not in self._head_groups:
            hybrid = Hybrid(Layout((flags,)), self._pattern)
            self._head_groups[flags] = hybrid.head_groups(0, self._num_kv_heads)
        return self._head_groups[flags]

    @contextmanager
    def _own_layout_afterwards(self) -> Iterator[None]:
        attentions = [layer.self_attn for layer in self._model.model.layers]
        before = [attention.head_groups for attention in attentions]
        try:
            yield
        finally:
            for attention, groups in zip(attentions, before, strict=True):
                assign_heads(attention, groups)

    def _losses(self, hidden: torch.Tensor, prompt: Prompt, tokens: torch.Tensor) -> PromptLosses:
        """Only the states before the answers and the sampled text go through the LM head."""
        model, means = self._model, []
        for places in (prompt.answers, prompt.text):
            positions = torch.from_numpy(places).to(tokens.device)
            states = model.model.norm(hidden[0, positions - 1])
            logits = model.lm_head(head_input(model, states))
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            nll = F.cross_entropy(logits, tokens[0, positions], reduction="none")
            if not bool(torch.isfinite(nll).all()):
                raise no_number(model, "the loss is not a number")
            means.append(nll.clamp(max=MAX_NLL).double().mean().item())
        return PromptLosses(*means)
