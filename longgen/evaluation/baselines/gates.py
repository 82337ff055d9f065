"""The gates of DuoAttention: how much full attention every KV head needs, learned with the model frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from longgen.attention import full_attention, sparse_attention
from longgen.data.synthetic.recall import haystack, insert
from longgen.errors import ConfigError
from longgen.evaluation.baselines.duo_attention import STREAMING
from longgen.evaluation.baselines.generation import attention_of
from longgen.evaluation.baselines.method import check_full
from longgen.evaluation.finite import no_number
from longgen.modeling.attention import register_implementation
from longgen.pattern import SparsePattern
from longgen.progress import progress_bar

GATED = "longgen_gated"
WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fable", "grove", "harbor", "ivory", "jasper", "kettle", "lantern"),
    *("marble", "nectar", "onyx", "pepper", "quartz", "raven", "saddle", "tulip", "umber", "velvet", "willow"),
)
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def optimise_gates(
    model: Any,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    pattern: SparsePattern = STREAMING,
    learning_rate: float = 0.02,
    penalty: float = 0.05,
) -> tuple[tuple[float, ...], ...]:
    """Learn a gate for every KV head (DuoAttention, arXiv 2410.10819, section 2.2); one step per batch.

    A head's output is ``gate * full + (1 - gate) * streaming attention``. The loss is how far the last hidden states of
    the tokens that are asked for move from those of full attention (mean square), plus ``penalty`` times the mean gate.
    Gates start at 1 and stay within 0 and 1. Learning rate and penalty are the authors'; ours: it does not change.

    Args:
        model: a longgen model with full attention in all heads; its weights are not changed.
        batches: token ids [batch, tokens] int64, and which of them are asked for [batch, tokens] bool, such as
            `passkey_row` makes them. The authors take 2,000.
        pattern: of streaming heads.
        learning_rate: of AdamW.
        penalty: weight of the gates in the loss.

    Returns:
        for every layer from the bottom up, one number per KV head.

    Raises:
        ConfigError: a model with sparse heads, or a batch in which nothing is asked for.
        ArtifactError: the model's hidden states are no numbers.
    """
    config = model.config
    check_full(config)
    gates = torch.ones(config.num_hidden_layers, config.num_key_value_heads, device=model.device, requires_grad=True)
    optimizer = torch.optim.AdamW([gates], lr=learning_rate, weight_decay=0.0)
    for tokens, answer_mask in batches:
        if not bool(answer_mask.any()):
            raise ConfigError("a batch asks for no token: allowed is at least one")
        # which they are is found out where the batch was made: the device need not be waited for
        places = tuple(place.to(model.device) for place in answer_mask.nonzero(as_tuple=True))
        tokens = tokens.to(model.device)
        with torch.no_grad():
            targets = model.model(input_ids=tokens, use_cache=False).last_hidden_state[places]
        with attention_of(model, GATED):
            states = model.model(input_ids=tokens, use_cache=False, gates=gates, pattern=pattern).last_hidden_state
        loss = (states[places] - targets).float().square().mean() + penalty * gates.mean()
        (gates.grad,) = torch.autograd.grad(loss, [gates])  # of the gates alone: the model's own gradients stay None
        optimizer.step()
        with torch.no_grad():
            gates.clamp_(0, 1)
    # once, not at every step, for which the device would be waited for: what is no number stays none
    if not bool(gates.isfinite().all()):
        raise no_number(model, "a gate that was learned is not a number")
    return tuple(map(tuple, gates.tolist()))


def row_batches(
    row: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]], steps: int, batch_size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches for `optimise_gates`, with a progress bar.

    Args:
        row: token ids [length] int64, and which of them are asked for [length] bool, from a random generator.
        steps: how many.
        batch_size: rows of each.
        seed: of all of them.
    """
    with progress_bar(steps, "gates", "step") as bar:
        for step in range(steps):
            # a stream per row: what it holds depends on nothing but its place
            rows = [row(np.random.default_rng([seed, step, number])) for number in range(batch_size)]
            tokens, answer_mask = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
            yield tokens, answer_mask
            bar.update()


def passkey_row(
    generator: np.random.Generator,
    text: np.ndarray,
    encode: Callable[[str], np.ndarray],
    length: int,
    passkeys: int = 10,
    words: int = 32,
) -> tuple[np.ndarray, np.ndarray]:
    """A row that hides pass keys in text and recites them at its end (DuoAttention, section 2.2; sentences are ours).

    Args:
        generator: of all randomness.
        text: token ids to hide them in.
        encode: token ids of a string, without special tokens.
        length: tokens of the row.
        passkeys: how many, up to 10.
        words: of each.

    Returns:
        token ids [length] int64, and [length] bool: the words that are recited.

    Raises:
        ConfigError: too many pass keys, or no room for them.
    """
    if not 1 <= passkeys <= len(ORDINALS):
        raise ConfigError(f"passkeys is {passkeys!r}: allowed are 1 to {len(ORDINALS)}")
    keys = [encode(" ".join(generator.choice(WORDS, words))) for _ in range(passkeys)]
    hidden = [
        np.concatenate([encode(f"\nThe {ordinal} pass key of the vault is: "), key, encode(".\n")])
        for ordinal, key in zip(ORDINALS, keys, strict=False)
    ]
    recitation = [
        part
        for ordinal, key in zip(ORDINALS, keys, strict=False)
        for part in ((encode(f"\nWhat is the {ordinal} pass key of the vault? It is: "), False), (key, True))
    ]
    room = length - sum(map(len, hidden)) - sum(len(tokens) for tokens, _ in recitation)
    if room < 0 or room > len(text):
        raise ConfigError(f"length is {length}: pass keys take {length - room} tokens, and the text has {len(text)}")
    places = np.sort(generator.integers(room + 1, size=passkeys))
    context = insert(haystack(generator, text, room), places, hidden)
    answer_mask = [np.zeros(len(context), bool), *(np.full(len(tokens), value) for tokens, value in recitation)]
    row = np.concatenate([context, *(tokens for tokens, _ in recitation)]).astype(np.int64)
    return row, np.concatenate(answer_mask)


def _gated_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    gates: torch.Tensor,
    pattern: SparsePattern,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    full = full_attention(query, key, value, scaling, None, module.full_kernel)
    streaming = sparse_attention(query, key, value, pattern, scale=scaling)
    share = gates[module.layer_idx].repeat_interleave(query.shape[1] // key.shape[1]).to(query.dtype)[:, None, None]
    return (streaming + share * (full - streaming)).transpose(1, 2).contiguous(), None


register_implementation(GATED, _gated_attention)
